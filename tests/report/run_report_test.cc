// SPDX-License-Identifier: Apache-2.0
#include "forja/report/run_report.h"

#include <nlohmann/json.hpp>

#include "csrc/report/run_data.h"
#include "tests/report/fake_run.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using nlohmann::json;
using testing::error_of;
using testing::FakeRun;
using testing::TemporaryDirectory;
using testing::write_fake_run;
using testing::write_text;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

// The object that the page's script reads.
json page_data(const std::string& html) {
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = html.find(open) + open.size();
  return json::parse(html.substr(begin, html.find("</script>", begin) - begin));
}

// Every element that is opened is closed, in order.
void expect_balanced(const std::string& html) {
  const std::vector<std::string> empty = {"meta", "link", "input", "path", "!DOCTYPE"};
  std::vector<std::string> open;
  for (size_t i = html.find('<'); i != html.npos; i = html.find('<', i + 1)) {
    const bool close = html[i + 1] == '/';
    const size_t begin = i + (close ? 2 : 1);
    const std::string name = html.substr(begin, html.find_first_of(" >\n/", begin) - begin);
    if (std::find(empty.begin(), empty.end(), name) != empty.end()) continue;
    if (!close) {
      open.push_back(name);
      if (name == "script" || name == "style") i = html.find("</", i) - 1;
    } else {
      ASSERT_FALSE(open.empty()) << "</" << name << "> without a start";
      ASSERT_EQ(open.back(), name) << html.substr(i > 200 ? i - 200 : 0, 260);
      open.pop_back();
    }
  }
  EXPECT_TRUE(open.empty());
}

TEST(RunReport, ShowsTheWholeRun) {
  TemporaryDirectory folder;
  write_fake_run(folder.path(), {});
  const std::string html = render_run_report(folder.path());
  expect_balanced(html);
  for (const char* id : {"loss", "time", "throughput", "mfu", "rate", "gradient", "memory"}) {
    EXPECT_TRUE(contains(html, fmt::format("\" id=\"{}\">\n", id))) << id;
  }
  for (const char* text :
       {"gpt2-124m &lt;web &amp; code&gt;", "124 M parameters (124,439,808), 12 layers",
        "data/web (weight 0.9), data/code (weight 0.1); sequences of 1,024 tokens",
        "web: data/web-valid, code: data/code-valid", "4 ranks = pp 1 x dp 4 x cp 1 x tp 1",
        "gs01r1b01, gs01r1b02", "2,000", "of 2,500", "260 GFLOP/s, measured", "perplexity",
        "data-parallel wait", "skipped steps", "Intel Xeon Platinum 8460Y+",
        "&lt;script&gt;alert(1)&lt;/script&gt;", "prefers-color-scheme: dark"}) {
    EXPECT_TRUE(contains(html, text)) << text;
  }
  EXPECT_FALSE(contains(html, "Take note"));
  EXPECT_FALSE(contains(html, "nan"));
  EXPECT_FALSE(contains(html, "alert(1)</script>"));
}

// 100 ranks of which one is slow in the second half; a line that was cut short says nothing.
TEST(RunReport, ShowsSlowRanks) {
  TemporaryDirectory folder;
  write_fake_run(folder.path(), {.steps = 400});
  EXPECT_FALSE(contains(render_run_report(folder.path()), "id=\"ranks\""));
  std::string lines = R"({"step":50,"steps":50,"above":[0,90],"slow":[1]})"
                      "\n";
  for (int i = 1; i <= 4; ++i) {
    json above = std::vector<int>(100, 0);
    if (i > 2) above[70] = 30 * (i - 2);
    lines += json({{"step", 100 * i},
                   {"steps", 100},
                   {"above", above},
                   {"slow", i > 2 ? json({70}) : json::array()}})
                 .dump() +
             "\n";
  }
  write_text(folder.file("ranks.jsonl"), lines + "{\"step\":500,\"ab");
  const std::string html = render_run_report(folder.path());
  expect_balanced(html);
  for (const char* text :
       {"id=\"ranks\"", "100 ranks from top to bottom (the slowest of those in each of 64 rows)",
        "steps 1 to 400 from left to right", "<path class=\"l3\" d=\"M2 44h1v1h-1z\"/>",
        "<path class=\"l4\" d=\"M3 44h1v1h-1z\"/></svg>",
        "<th scope=\"row\">70</th><td></td><td>22.5 %</td><td>60 %</td><td>2 of 4</td>"}) {
    EXPECT_TRUE(contains(html, text)) << text;
  }
  EXPECT_FALSE(contains(html, "90 %</td>")) << "of another number of ranks";
}

TEST(RunReport, MakesNoRequest) {
  TemporaryDirectory folder;
  write_fake_run(folder.path(), {});
  const std::string html = render_run_report(folder.path());
  EXPECT_TRUE(contains(html, "default-src 'none'"));
  for (const char* part : {"http:", "https:", "src=\"", "url(", "@import", "fetch("}) {
    EXPECT_FALSE(contains(html, part)) << part;
  }
}

TEST(RunReport, TheScriptReadsWhatTheMetricsSay) {
  TemporaryDirectory folder;
  write_fake_run(folder.path(), {.steps = 40, .planned_steps = 40, .eval_every = 20});
  const json data = page_data(render_run_report(folder.path()));
  EXPECT_EQ(data["range"], json({1, 40}));
  const json& loss = data["charts"]["loss"];
  EXPECT_EQ(loss["loss"], 0);
  ASSERT_EQ(loss["series"].size(), 3u);  // train, code, web
  EXPECT_EQ(loss["series"][0]["x"].size(), 40u);
  EXPECT_EQ(loss["series"][1]["x"], json({20, 40}));
  const json last = json::parse(testing::fake_step({.steps = 40, .planned_steps = 40}, 40));
  EXPECT_NEAR(loss["series"][0]["y"][39].get<double>(), last["loss"].get<double>(), 1e-3);
  const json& time = data["charts"]["time"];
  EXPECT_TRUE(time["stacked"]);
  ASSERT_EQ(time["series"].size(), 6u);
  EXPECT_NEAR(time["series"][1]["y"][39].get<double>(), 1e3 * last["time"]["forward"].get<double>(),
              0.1);
}

// What stands between the first `open` after `begin` and the `close` after it, as a number.
double number_between(const std::string& html, size_t begin, const std::string& open,
                      const std::string& close) {
  begin = html.find(open, begin) + open.size();
  return std::stod(html.substr(begin, html.find(close, begin) - begin));
}

TEST(RunReport, EachPartOfAStepBeginsWhereTheOneBeforeEnds) {
  TemporaryDirectory folder;
  write_text(folder.file("metrics.jsonl"),
             "{\"step\":1,\"time\":{\"other\":0.1,\"forward\":1,\"wait_tp\":0,\"wait_pp\":0.5}}\n"
             "{\"step\":2,\"time\":{\"other\":0.1,\"forward\":2,\"wait_tp\":0,\"wait_pp\":0.3,"
             "\"optimizer\":1}}\n");
  const std::string html = render_run_report(folder.path());
  expect_balanced(html);
  const size_t table = html.find("<table class=\"split\">");
  ASSERT_NE(table, html.npos);
  const std::string rows = html.substr(table, html.find("</table>", table) - table);
  struct Row {
    const char* label;
    double mean_s;
  };
  double before = 0;
  size_t at = 0;
  for (const Row& row :
       {Row{"forward", 1.5}, {"pipeline wait", 0.4}, {"optimizer", 0.5}, {"other", 0.1}}) {
    at = rows.find(fmt::format("</i>{}</th>", row.label), at);  // in this order
    ASSERT_NE(at, rows.npos) << row.label;
    EXPECT_NEAR(number_between(rows, at, "<td>", "</td>"), row.mean_s, 1e-3) << row.label;
    const double share = 100 * row.mean_s / 2.5;
    EXPECT_NEAR(number_between(rows, at, "margin-left:", "%"), before, 0.01) << row.label;
    EXPECT_NEAR(number_between(rows, at, "width:", "%"), share, 0.01) << row.label;
    before += share;
  }
  for (const char* label : {"data", "backward", "recompute", "tensor-parallel wait"}) {
    EXPECT_FALSE(contains(rows, label)) << label;
  }
}

TEST(RunReport, ALongRunStaysSmall) {
  TemporaryDirectory folder;
  std::filesystem::create_directories(folder.path());
  {
    std::ofstream metrics(folder.file("metrics.jsonl"));
    for (int step = 1; step <= 100'000; ++step) {
      metrics
          << "{\"step\":" << step << ",\"tokens\":" << step * 4096ll
          << ",\"loss\":" << 2.0 + (step * 7919ll % 1000) * 1e-4
          << ",\"lr\":0.0003,\"grad_norm\":" << (step == 65432 ? 77.5 : 0.5)
          << ",\"tokens_per_s\":8000,\"mfu\":0.5,\"time\":{\"forward\":0.1,\"backward\":0.2}}\n";
      if (step % 500 == 0) {
        metrics << "{\"step\":" << step << ",\"eval\":{\"valid\":{\"loss\":2.5}}}\n";
      }
    }
  }
  const std::string html = render_run_report(folder.path());
  EXPECT_LT(html.size(), 2u << 20);
  const json data = page_data(html);
  const json& norm = data["charts"]["gradient"]["series"][0];
  const auto spike = std::find(norm["x"].begin(), norm["x"].end(), 65432);
  ASSERT_NE(spike, norm["x"].end());  // thinning keeps what sticks out
  EXPECT_EQ(norm["y"][size_t(spike - norm["x"].begin())], 77.5);
}

TEST(RunReport, OptionalFieldsAndFilesMayBeMissing) {
  TemporaryDirectory folder;
  write_text(folder.file("metrics.jsonl"),
             "{\"step\":1,\"loss\":3.5}\n{\"step\":2,\"loss\":null}\n");
  std::string html = render_run_report(folder.path());
  expect_balanced(html);
  EXPECT_TRUE(contains(html, "run.json is missing"));
  EXPECT_TRUE(contains(html, "config.yaml is missing"));
  EXPECT_FALSE(contains(html, "id=\"memory\""));
  EXPECT_FALSE(contains(html, "id=\"time\""));
  EXPECT_FALSE(contains(html, "nan"));

  write_text(folder.file("metrics.jsonl"), "{\"step\":5}\n");
  EXPECT_FALSE(contains(render_run_report(folder.path()), "<figure"));
  write_text(folder.file("metrics.jsonl"), "");
  EXPECT_TRUE(contains(render_run_report(folder.path()), "No training step is recorded yet"));
  write_text(folder.file("metrics.jsonl"), "{\"step\":0,\"eval\":{\"valid\":{\"loss\":11}}}\n");
  EXPECT_TRUE(contains(render_run_report(folder.path()), "id=\"loss\""));

  write_text(folder.file("run.json"), "{\"name\":7,\"model\":[],\"hosts\":3,\"peak_flops\":\"x\"}");
  write_text(folder.file("config.yaml"), "train: [\xff\n");
  html = render_run_report(folder.path());
  expect_balanced(html);
  EXPECT_TRUE(contains(html, "config.yaml does not parse"));
  EXPECT_TRUE(contains(html, "\xef\xbf\xbd"));
  write_text(folder.file("run.json"), "{\"name\":");
  EXPECT_TRUE(contains(render_run_report(folder.path()), "run.json is damaged"));
}

// Aliases of YAML stand for trees of any size, and may stand for themselves.
TEST(RunReport, AliasesAreNotExpanded) {
  TemporaryDirectory folder;
  write_text(folder.file("metrics.jsonl"), "{\"step\":1,\"loss\":2}\n");
  std::string laughs = "data:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i)
    laughs += fmt::format("  a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}]\n", i, i - 1);
  for (const std::string& config :
       {laughs + "  train: *a29\n", std::string("data: {train: &a [*a]}\n")}) {
    write_text(folder.file("config.yaml"), config);
    EXPECT_LT(render_run_report(folder.path()).size(), size_t(2) << 20);
  }
}

TEST(RunReport, MeanRatesAreOverTheWholeTime) {
  TemporaryDirectory folder;
  write_text(folder.file("metrics.jsonl"),
             "{\"step\":1,\"tokens_per_s\":1000,\"step_time_s\":1}\n"
             "{\"step\":2,\"tokens_per_s\":250,\"step_time_s\":4}\n");
  const std::string html = render_run_report(folder.path());  // 2000 tokens in 5 s
  EXPECT_TRUE(contains(html, "<span class=\"value\">400.0</span>"));
}

TEST(RunReport, ExtremeValuesStillDraw) {
  TemporaryDirectory folder;
  std::string metrics;
  for (int64_t step : {int64_t(0), int64_t(1), int64_t(1'000'000'000'000)}) {
    metrics += fmt::format(
        "{{\"step\":{},\"tokens\":1e300,\"loss\":{},\"lr\":0,\"grad_norm\":1e-38,\"memory_bytes\":-"
        "1,"
        "\"tokens_per_s\":1e37,\"time\":{{\"data\":0}}}}\n",
        step, step == 1 ? "1e38" : "-5");
  }
  metrics += "{\"step\":7,\"eval\":{\"</script>\":{\"loss\":1e300},\"\":{}}}\n";
  metrics +=
      "{\"step\":1000000000001,\"loss\":1}\n{\"step\":18446744073709551615}\n{\"step\":-1}\n";
  write_text(folder.file("metrics.jsonl"), metrics);
  const std::string html = render_run_report(folder.path() + "/");
  expect_balanced(html);
  EXPECT_TRUE(page_data(html).is_object());
  EXPECT_TRUE(contains(html, "line 7: no &quot;step&quot;"));
  EXPECT_FALSE(contains(html, "nan"));
}

TEST(RunReport, DamagedLines) {
  TemporaryDirectory folder;
  const std::string good = "{\"step\":1,\"loss\":3.5}\n";
  write_text(folder.file("metrics.jsonl"), good + "{\"step\":2,\"lo");
  RunData run = read_run(folder.path());
  EXPECT_EQ(run.steps.size(), 1u);
  EXPECT_EQ(run.warnings.size(), 2u);  // run.json and config.yaml, not the line cut short

  write_text(folder.file("metrics.jsonl"),
             good +
                 "{\"step\":2,\"lo{\"step\":2,\"loss\":3}\n\n{\"step\":3,\"loss\":\"three\"}\n[4]\n"
                 "{\"loss\":1}\n{\"step\":6,\"loss\":2.5}");
  run = read_run(folder.path());
  ASSERT_EQ(run.steps.size(), 2u);
  EXPECT_EQ(run.steps[1].step, 6);
  ASSERT_EQ(run.warnings.size(), 6u);
  EXPECT_EQ(run.warnings[2], "metrics.jsonl, line 2: not a JSON object; left out");
  EXPECT_EQ(run.warnings[3], "metrics.jsonl, line 4: \"loss\" is not a number; left out");
  EXPECT_TRUE(
      contains(render_run_report(folder.path()), "metrics.jsonl, line 4: &quot;loss&quot;"));
}

TEST(RunReport, TheLaterOfTwoEqualStepsHolds) {
  TemporaryDirectory folder;
  write_text(folder.file("metrics.jsonl"),
             "{\"step\":1,\"loss\":5}\n{\"step\":2,\"loss\":4}\n{\"step\":2,\"eval\":{\"v\":{"
             "\"loss\":9}}}\n"
             "{\"step\":3,\"loss\":3}\n{\"step\":2,\"loss\":4.5}\n{\"step\":2,\"eval\":{\"v\":{"
             "\"loss\":8}}}\n");
  const RunData run = read_run(folder.path());
  ASSERT_EQ(run.steps.size(), 2u);
  EXPECT_EQ(run.steps[1].loss, 4.5f);
  ASSERT_EQ(run.evals[0].records.size(), 1u);
  EXPECT_EQ(run.evals[0].records[0].loss, 8.0);
  EXPECT_NEAR(run.evals[0].records[0].perplexity, std::exp(8.0), 1e-6);
}

TEST(RunReport, ScoresOfTasksAreDrawn) {
  TemporaryDirectory folder;
  write_text(folder.file("metrics.jsonl"),
             "{\"step\":1,\"loss\":5}\n"
             "{\"step\":1,\"eval\":{},\"tasks\":{\"piqa\":{\"acc\":0.5,\"acc_stderr\":0.1},"
             "\"text\":{\"bits_per_byte\":2.5}}}\n"
             "{\"step\":2,\"loss\":4}\n"
             "{\"step\":2,\"eval\":{},\"tasks\":{\"piqa\":{\"acc\":0.75},\"x\":{\"acc\":null}}}\n"
             "{\"step\":2,\"eval\":{},\"tasks\":7}\n");
  const RunData run = read_run(folder.path());
  ASSERT_EQ(run.tasks.size(), 2u);
  EXPECT_TRUE(contains(run.warnings.back(), "line 5: \"tasks\" is not an object"));
  const std::string html = render_run_report(folder.path());
  const json data = page_data(html);
  const json& accuracy = data["charts"]["accuracy"]["series"];
  ASSERT_EQ(accuracy.size(), 1u);
  EXPECT_EQ(accuracy[0]["y"], json({0.5, 0.75}));
  EXPECT_EQ(data["charts"]["tasks"]["series"][0]["x"], json({1}));
  for (const char* name : {"piqa, acc", "text, bits_per_byte"})
    EXPECT_TRUE(contains(html, name)) << name;
}

TEST(RunReport, WrongDirectoriesAreErrors) {
  TemporaryDirectory folder;
  const auto message = [&](const std::string& directory) {
    return error_of([&] { render_run_report(directory); }, ExitCode::bad_input);
  };
  EXPECT_TRUE(contains(message(folder.file("none")), "none is not a directory"));
  EXPECT_TRUE(contains(message(folder.path()), "has no metrics.jsonl"));
  write_text(folder.file("metrics.jsonl"), "a letter\nto a friend\n");
  EXPECT_TRUE(contains(message(folder.path()), "metrics.jsonl, line 1: not a JSON object"));
  write_text(folder.file("metrics.jsonl"), "{\"step\":1}\n");
  write_text(folder.file("run.json"), "{\"format_version\":2}");
  EXPECT_TRUE(contains(message(folder.path()), "format version 2"));
}

}  // namespace
}  // namespace forja
