// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "csrc/report/html.h"
#include "csrc/report/numbers.h"
#include "forja/base/text.h"

namespace forja {
namespace {

using nlohmann::json;

constexpr size_t kMaxHosts = 16, kMaxConfigBytes = 256 << 10;

std::string row(const std::string& name, const std::string& value) {
  if (value.empty()) return "";
  return fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape_html(name), escape_html(value));
}

std::string tile(const char* name, const std::string& value, const std::string& detail,
                 const std::string& extra_html = "") {
  return fmt::format(
      "<div class=\"tile\"><span class=\"name\">{}</span><span class=\"value\">{}</span>"
      "<span class=\"detail\">{}</span>{}</div>\n",
      name, escape_html(value), escape_html(detail), extra_html);
}

// A count that came as a real number.
std::string format_whole(double value) {
  return std::abs(value) < 9e18 ? format_integer(int64_t(value)) : format_value(value);
}

// Any JSON value as a reader takes it: text without quotes, whole numbers with separators.
std::string plain(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return format_integer(value.get<int64_t>());
  if (value.is_number()) return format_value(value.get<double>());
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  return "";
}

std::string plain_field(const json& info, const char* key) {
  const auto found = info.find(key);
  return found == info.end() ? "" : plain(*found);
}

// "260 GFLOP/s" without the unit's name: "260 G".
std::string format_flops(double flops) {
  const char* units[] = {"", "k", "M", "G", "T", "P", "E"};
  int unit = 0;
  for (; flops >= 1000 && unit < 6; ++unit) flops /= 1000;
  return fmt::format("{:.4g} {}", flops, units[unit]);
}

// "node01, node02 and 14 more".
std::string describe_hosts(const json& info) {
  const auto hosts = info.find("hosts");
  if (hosts == info.end()) return "";
  if (!hosts->is_array()) return plain(*hosts);
  std::vector<std::string> names;
  for (const json& host : *hosts) {
    const std::string name = plain(host);
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
    }
  }
  const size_t count = names.size();
  if (count > kMaxHosts) names.resize(kMaxHosts);
  std::string text = join(names, ", ");
  if (count > kMaxHosts) text += fmt::format(" and {} more", count - kMaxHosts);
  return text;
}

std::string describe_model(const json& info) {
  const auto model = info.find("model");
  if (model == info.end() || !model->is_object()) return "";
  std::vector<std::string> parts;
  const double parameters = number_field(*model, "parameters");
  if (std::isfinite(parameters)) {
    parts.push_back(
        fmt::format("{} parameters ({})", format_count(parameters), format_whole(parameters)));
  }
  const double layers = number_field(*model, "layers"),
               hidden = number_field(*model, "hidden_size");
  if (std::isfinite(layers)) parts.push_back(format_whole(layers) + " layers");
  if (std::isfinite(hidden)) parts.push_back("hidden size " + format_whole(hidden));
  return join(parts, ", ");
}

double last_tokens(const RunData& run) {
  for (auto record = run.steps.rbegin(); record != run.steps.rend(); ++record) {
    if (std::isfinite(record->tokens)) return record->tokens;
  }
  return NAN;
}

int64_t last_step(const RunData& run) { return run.steps.empty() ? 0 : run.steps.back().step; }

// The record with the lowest loss of a set, or null.
const EvalRecord* best_record(const EvalSet& set) {
  const auto best =
      std::min_element(set.records.begin(), set.records.end(),
                       [](const EvalRecord& a, const EvalRecord& b) { return a.loss < b.loss; });
  return best == set.records.end() ? nullptr : &*best;
}

std::string step_tile(const RunData& run) {
  const int64_t done = last_step(run), target = run.target_steps;
  const std::string detail = target > 0 ? fmt::format("of {}", format_integer(target)) : "";
  std::string bar;
  if (target > 0) {
    bar = fmt::format("<span class=\"progress\"><i style=\"width:{:.1f}%\"></i></span>",
                      100.0 * std::min(1.0, double(done) / double(target)));
  }
  return tile("Steps", format_integer(done), detail, bar);
}

std::string validation_tile(const RunData& run) {
  const EvalSet* best_set = nullptr;
  const EvalRecord* best = nullptr;
  for (const EvalSet& set : run.evals) {
    const EvalRecord* record = best_record(set);
    if (record && (!best || record->loss < best->loss)) {
      best = record;
      best_set = &set;
    }
  }
  if (!best) return "";
  return tile("Validation loss", format_value(best->loss),
              fmt::format("best: {}, step {}", best_set->name, format_integer(best->step)));
}

std::string describe_last(const LastLoss& last) {
  return last.num_steps > 1 ? fmt::format("mean of the last {} steps", last.num_steps)
                            : "last step";
}

std::string loss_row(const std::string& name, const std::string& when, double loss,
                     double perplexity) {
  return fmt::format(
      "<tr><th scope=\"row\">{}</th><td "
      "class=\"when\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
      escape_html(name), escape_html(when), format_value(loss), format_value(loss / std::log(2.0)),
      format_value(perplexity));
}

}  // namespace

std::string header_section(const RunData& run) {
  const json& info = run.info;
  std::string data = run.train_data;
  if (!data.empty() && run.sequence_length > 0) {
    data += fmt::format("; sequences of {} tokens", format_integer(run.sequence_length));
  }
  std::string layout = string_field(info, "layout");
  if (layout.empty() && std::isfinite(number_field(info, "ranks"))) {
    layout = plain_field(info, "ranks") + " ranks";
  }
  return fmt::format(
      "<dl class=\"facts\">\n{}{}{}{}{}{}</dl>\n", row("Model", describe_model(info)),
      row("Data", data), row("Validation", run.valid_data), row("Layout", layout),
      row("Hosts", describe_hosts(info)), row("Started", string_field(info, "started")));
}

std::string tiles_section(const RunData& run) {
  if (run.steps.empty()) return "<p class=\"empty\">No training step is recorded yet.</p>\n";
  std::string html = "<section class=\"tiles\">\n" + step_tile(run);
  const double tokens = last_tokens(run);
  if (std::isfinite(tokens)) {
    html += tile("Tokens", format_count(tokens), format_whole(tokens));
  }
  const LastLoss last = last_loss(run);
  if (last.num_steps > 0) {
    html += tile("Training loss", format_value(last.loss), describe_last(last));
  }
  html += validation_tile(run);
  const double speed = mean_of(run, &StepRecord::tokens_per_s, Weight::time),
               mfu = mean_of(run, &StepRecord::mfu, Weight::time);
  if (std::isfinite(speed)) html += tile("Throughput", format_value(speed), "tokens/s, mean");
  if (std::isfinite(mfu)) html += tile("MFU", fmt::format("{:.1f} %", 100 * mfu), "mean");
  const double step_s = mean_of(run, &StepRecord::step_time_s, Weight::steps);
  if (std::isfinite(step_s)) {
    double total_s = 0;
    for (const StepRecord& record : run.steps) {
      if (record.step_time_s > 0) total_s += record.step_time_s;
    }
    html += tile("Time in steps", format_duration(total_s),
                 fmt::format("{} a step", step_s < 1 ? fmt::format("{:.0f} ms", 1e3 * step_s)
                                                     : fmt::format("{:.2f} s", step_s)));
  }
  return html + "</section>\n";
}

std::string warnings_section(const RunData& run) {
  if (run.warnings.empty()) return "";
  std::string html = "<section class=\"warnings\" role=\"note\"><h2>Take note</h2><ul>\n";
  for (const std::string& warning : run.warnings) {
    html += fmt::format("<li>{}</li>\n", escape_html(warning));
  }
  return html + "</ul></section>\n";
}

std::string loss_table(const RunData& run) {
  const LastLoss train = last_loss(run);
  std::string rows;
  if (train.num_steps > 0) {
    rows += loss_row("train", describe_last(train), train.loss, std::exp(train.loss));
  }
  for (const EvalSet& set : run.evals) {
    const EvalRecord* best = best_record(set);
    if (!best) continue;
    const EvalRecord& last = set.records.back();
    rows +=
        loss_row(set.name, "last, step " + format_integer(last.step), last.loss, last.perplexity);
    if (best->step != last.step) {
      rows += loss_row(set.name, "best, step " + format_integer(best->step), best->loss,
                       best->perplexity);
    }
  }
  if (rows.empty()) return "";
  return "<div class=\"scroll\"><table><thead><tr><th></th><th></th><th>nats per token</th>"
         "<th>bits per token</th><th>perplexity</th></tr></thead><tbody>\n" +
         rows + "</tbody></table></div>\n";
}

std::string time_table(const RunData& run) {
  std::array<double, kTimeParts.size()> mean_s{};
  double total_s = 0;
  int64_t count = 0;
  for (const StepRecord& record : run.steps) {
    bool known = false;
    for (size_t part = 0; part < mean_s.size(); ++part) {
      if (!std::isfinite(record.time_s[part])) continue;
      known = true;
      mean_s[part] += record.time_s[part];
    }
    count += known;
  }
  if (count == 0) return "";
  for (double& part : mean_s) total_s += part /= double(count);
  const double largest_s = std::max(1e-12, *std::max_element(mean_s.begin(), mean_s.end()));
  const bool ms = total_s < 1.0;
  const double scale = ms ? 1e3 : 1.0;
  std::string html = fmt::format(
      "<div class=\"scroll\"><table class=\"split\"><thead><tr><th></th><th>mean, "
      "{}</th><th>share</th>"
      "<th></th></tr></thead><tbody>\n",
      ms ? "ms" : "s");
  for (size_t part = 0; part < mean_s.size(); ++part) {
    const double share = total_s > 0 ? 100 * mean_s[part] / total_s : 0;
    html += fmt::format(
        "<tr><th scope=\"row\"><i class=\"swatch area c{0}\"></i>{1}</th><td>{2}</td><td>{3:.1f} "
        "%</td>"
        "<td class=\"bar\"><i class=\"c{0}\" style=\"width:{4:.1f}%\"></i></td></tr>\n",
        kTimeColors[part], kTimeLabels[part], format_value(scale * mean_s[part]), share,
        100 * mean_s[part] / largest_s);
  }
  return html + fmt::format(
                    "</tbody><tfoot><tr><th scope=\"row\">step</th><td>{}</td><td>100 %</td>"
                    "<td></td></tr></tfoot></table></div>\n",
                    format_value(scale * total_s));
}

std::string environment_section(const RunData& run, bool wide) {
  const json& info = run.info;
  std::string rows =
      row("Device", plain_field(info, "device")) + row("CPU", plain_field(info, "cpu")) +
      row("Precision", plain_field(info, "precision")) + row("Ranks", plain_field(info, "ranks")) +
      row("Threads per rank", plain_field(info, "threads_per_rank")) +
      row("Launcher", plain_field(info, "launcher"));
  const double peak = number_field(info, "peak_flops");
  if (std::isfinite(peak)) {
    const std::string source = string_field(info, "peak_source");
    rows += row("Peak", fmt::format("{}FLOP/s{}{}", format_flops(peak), source.empty() ? "" : ", ",
                                    source));
  }
  rows += row("Forja", plain_field(info, "version")) +
          row("Revision", plain_field(info, "git_revision"));
  const std::vector<std::string> shown = {
      "format_version",   "name",     "model",      "layout",      "hosts",
      "started",          "device",   "cpu",        "precision",   "ranks",
      "threads_per_rank", "launcher", "peak_flops", "peak_source", "version",
      "git_revision"};
  for (const auto& [key, value] : info.items()) {
    if (std::find(shown.begin(), shown.end(), key) == shown.end()) rows += row(key, plain(value));
  }
  if (rows.empty()) return "";
  return fmt::format(
      "<section class=\"card{}\"><h2>Environment</h2><dl class=\"facts\">\n{}</dl></section>\n",
      wide ? " wide" : "", rows);
}

std::string config_section(const RunData& run) {
  if (run.config.empty()) return "";
  const auto lines = std::count(run.config.begin(), run.config.end(), '\n');
  const bool cut = run.config.size() > kMaxConfigBytes;
  return fmt::format(
      "<details class=\"card\"><summary>Resolved configuration <small>config.yaml, {} lines</small>"
      "</summary><pre>{}</pre>{}</details>\n",
      format_integer(lines), escape_html(std::string_view(run.config).substr(0, kMaxConfigBytes)),
      cut ? "<p class=\"note\">Cut here: see the file.</p>" : "");
}

}  // namespace forja
