// SPDX-License-Identifier: Apache-2.0
#include "forja/base/config.h"

#include "forja/base/file.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

struct Inner {
  double rate = 0.5;
  std::vector<double> list = {1.0, 2.0};
  void visit(ConfigVisitor& v) {
    v.field("rate", rate, "A rate.", fraction());
    v.field("list", list, "Numbers.");
  }
};

struct Item {
  std::string name;
  void visit(ConfigVisitor& v) { v.field("name", name, "Its name."); }
};

struct Outer {
  int64_t count = 3;
  bool flag = false;
  std::string mode = "fast";
  std::string file;
  Inner inner;
  std::vector<Item> items;
  void visit(ConfigVisitor& v) {
    v.field("count", count, "How many.", positive<int64_t>());
    v.field("flag", flag, "A flag.");
    v.field("mode", mode, "A mode.", one_of({"fast", "slow"}));
    v.path("file", file, "A file.");
    v.section_or_file("inner", inner, "More.");
    v.list("items", items, "Items.");
  }
};

Outer parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  Outer config;
  read_config_text(text, "run.yaml", overrides, [&](ConfigVisitor& v) { config.visit(v); });
  return config;
}

std::string fault(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return testing::error_of([&] { parse(text, overrides); }, ExitCode::bad_input);
}

TEST(Config, ReadsEveryType) {
  const Outer c = parse(
      "count: 1_000\nflag: true\nmode: slow\ninner: {rate: 2.5e-1, list: [3, 4.5]}\nitems:\n  - "
      "{name: a}\n  - name: b\n");
  EXPECT_EQ(c.count, 1000);
  EXPECT_TRUE(c.flag);
  EXPECT_EQ(c.mode, "slow");
  EXPECT_EQ(c.inner.rate, 0.25);
  EXPECT_EQ(c.inner.list, (std::vector<double>{3.0, 4.5}));
  ASSERT_EQ(c.items.size(), 2u);
  EXPECT_EQ(c.items[1].name, "b");
  EXPECT_EQ(parse("").count, 3);
}

TEST(Config, OverridesChangeKeysOfAnyDepth) {
  const Outer c =
      parse("count: 5\ninner: {rate: 0.1}\n", {"count=7", "inner.rate=0.2", "items=[{name: z}]"});
  EXPECT_EQ(c.count, 7);
  EXPECT_EQ(c.inner.rate, 0.2);
  EXPECT_EQ(c.items.at(0).name, "z");
}

TEST(Config, SectionFromAFileAndItsOverrides) {
  testing::TemporaryDirectory folder;
  write_file(folder.file("inner.yaml"), "rate: 0.75\n");
  write_file(folder.file("run.yaml"), "inner: inner.yaml\nfile: data/x\n");
  Outer c;
  read_config_file(folder.file("run.yaml"), {"inner.list=[9]"},
                   [&](ConfigVisitor& v) { c.visit(v); });
  EXPECT_EQ(c.inner.rate, 0.75);
  EXPECT_EQ(c.inner.list, std::vector<double>{9.0});
  EXPECT_EQ(c.file, folder.file("data/x")) << "relative to the file that holds it";
  write_file(folder.file("inner.yaml"), "rat: 0.75\n");
  const std::string message = testing::error_of(
      [&] { read_config_file(folder.file("run.yaml"), {}, [&](ConfigVisitor& v) { c.visit(v); }); },
      ExitCode::bad_input);
  EXPECT_EQ(message,
            folder.file("inner.yaml") + ":1:1: unknown key \"inner.rat\"; did you mean \"rate\"?");
}

TEST(Config, FaultsSayWhereWhatAndWhatToDo) {
  EXPECT_EQ(fault("count: 3\ncuont: 4\n"),
            "run.yaml:2:1: unknown key \"cuont\"; did you mean \"count\"?");
  EXPECT_EQ(fault("count: many\n"), "run.yaml:1:8: count: expected a whole number, found \"many\"");
  EXPECT_EQ(fault("count: -2\n"), "run.yaml:1:8: count: expected greater than 0, found -2");
  EXPECT_EQ(fault("count: 1.5\n"), "run.yaml:1:8: count: expected a whole number, found \"1.5\"");
  EXPECT_EQ(fault("count: [1]\n"), "run.yaml:1:8: count: expected a whole number, found a list");
  EXPECT_EQ(fault("mode: medium\n"),
            "run.yaml:1:7: mode: expected one of fast, slow, found medium");
  EXPECT_EQ(fault("inner:\n  rate: 1.0\n"),
            "run.yaml:2:9: inner.rate: expected 0 or greater and less than 1, found 1");
  EXPECT_EQ(fault("inner: [1]\n"), "run.yaml:1:8: inner: expected a mapping, found a list");
  EXPECT_EQ(fault("items: {name: a}\n"),
            "run.yaml:1:8: items: expected a list of mappings, found a mapping");
  EXPECT_EQ(fault("count: 1\ncount: 2\n"), "run.yaml:2:1: key \"count\" is given twice");
  EXPECT_EQ(fault("- 1\n"), "run.yaml: expected a mapping of keys, found a list");
  EXPECT_EQ(fault("flag: maybe\n"), "run.yaml:1:7: flag: expected true or false, found \"maybe\"");
  EXPECT_NE(fault("count: [1\n").find("run.yaml:2:1"), std::string::npos);
  EXPECT_NE(fault("zebra: 1\n").find("known keys: count, file, flag, inner, items, mode"),
            std::string::npos);
}

TEST(Config, NumbersAreFinite) {
  for (const char* value : {"nan", "inf", "-inf", "1e999"})
    EXPECT_NE(fault(fmt::format("inner: {{rate: {}}}\n", value)).find("expected a number"),
              std::string::npos)
        << value;
}

// A key of any length is compared to those that there are in no time and memory.
TEST(Config, LongKeys) {
  const std::string message = fault("? " + std::string(1 << 20, 'x') + "\n: 1\n");
  EXPECT_NE(message.find("known keys: count"), std::string::npos);
}

TEST(Config, FaultsOfTheCommandLineNameIt) {
  EXPECT_EQ(fault("count: 1\n", {"count=x"}),
            "command line (count=x): count: expected a whole number, found \"x\"");
  EXPECT_EQ(fault("", {"innner.rate=0.1"}),
            "command line (innner.rate=0.1): unknown key \"innner\"; did you mean \"inner\"?");
  EXPECT_EQ(fault("", {"count"}), "command line: expected key=value, found \"count\"");
}

TEST(Config, PrintedConfigReadsBackAsItself) {
  Outer c = parse("count: 9\ninner: {rate: 0.125, list: [1.0e-20]}\nitems: [{name: 'yes: no'}]\n");
  const auto print = [](Outer& x) { return print_config([&](ConfigVisitor& v) { x.visit(v); }); };
  const std::string text = print(c);
  Outer again = parse(text);
  EXPECT_EQ(print(again), text);
  EXPECT_EQ(again.items.at(0).name, "yes: no");
}

TEST(Config, DocumentationHasEveryKey) {
  Outer c;
  const std::string text = document_config([&](ConfigVisitor& v) { c.visit(v); });
  for (const char* key : {"`count`", "`inner.rate`", "`items[].name`", "one of fast, slow"}) {
    EXPECT_NE(text.find(key), std::string::npos) << key;
  }
}

}  // namespace
}  // namespace forja
