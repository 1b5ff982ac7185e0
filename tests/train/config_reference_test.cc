// SPDX-License-Identifier: Apache-2.0
// docs/configuration.md is what the config visitor says. FORJA_UPDATE=1 writes it anew.
#include <cstdlib>
#include <filesystem>

#include "forja/base/file.h"
#include "forja/train/run_config.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

constexpr const char* kIntroduction = R"(# Every key of a run

A run is one YAML file; `key=value` behind it on the command line overrides a key (`train.steps=100`). Every key has a
default. Relative paths are relative to the file that holds them. A mapping marked "or path" may be the path of a YAML
file instead, and `model` also the `config.json` of a Hugging Face model. An unknown key is an error that suggests the
nearest one. This page is made from the code: `FORJA_UPDATE=1 build/release/train_test --gtest_filter=ConfigReference.*`.

)";

TEST(ConfigReference, IsUpToDate) {
  RunConfig config;
  config.data.train.resize(1);
  config.data.valid.resize(1);
  const std::string expected =
      kIntroduction + document_config([&](ConfigVisitor& v) { config.visit(v); });
  const std::string path = testing::source_dir() + "/docs/configuration.md";
  if (std::getenv("FORJA_UPDATE")) write_file(path, expected);
  EXPECT_EQ(read_file(path), expected) << "run with FORJA_UPDATE=1";
}

// Every example of a run in configs/runs is a valid one.
TEST(ConfigReference, ExamplesRead) {
  int runs = 0;
  for (const auto& item :
       std::filesystem::directory_iterator(testing::source_dir() + "/configs/runs")) {
    const RunConfig config = read_run_config(item.path(), {});
    EXPECT_EQ(config.name + ".yaml", item.path().filename());
    const RunConfig again = read_run_config_text(config.to_yaml(), "printed");
    EXPECT_EQ(again.to_yaml(), config.to_yaml());
    ++runs;
  }
  EXPECT_GT(runs, 0);
}

}  // namespace
}  // namespace forja
