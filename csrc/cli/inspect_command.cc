// SPDX-License-Identifier: Apache-2.0
// forja inspect PATH [--verify]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "csrc/cli/load_model.h"
#include "forja/base/text.h"
#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/cli/commands.h"
#include "forja/comm/flight_record.h"
#include "forja/data/dataset.h"
#include "forja/data/tokenizer.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

std::string describe_hf_directory(const std::string& path, bool verify) {
  return describe_hf_model(path, verify) +
         (has_tokenizer(path) ? describe_tokenizer(path) : "no tokenizer\n");
}

constexpr int kFlightEvents = 20;  // of each rank

std::string describe_run(const std::string& path, bool verify) {
  const auto latest = latest_checkpoint(path + "/checkpoints");
  if (!latest) return fmt::format("run directory without a checkpoint: {}\n", path);
  return fmt::format("run directory; newest checkpoint: {}\n{}", *latest,
                     describe_checkpoint(*latest, verify));
}

std::string describe_path(const std::string& path, bool verify) {
  if (!fs::exists(path)) fail_input("no such file or directory: {}", path);
  if (is_checkpoint(path)) return describe_checkpoint(path, verify);
  if (fs::exists(path + "/checkpoints")) return describe_run(path, verify);
  if (fs::exists(path + "/rank-00000")) return describe_flight_records(path, kFlightEvents);
  if (is_hf_directory(path)) return describe_hf_directory(path, verify);
  if (fs::exists(path + "/manifest.json")) return describe_dataset(path, verify);
  if (!has_tokenizer(path)) {
    fail_input(
        "{}: expected a run, checkpoint, Hugging Face model, dataset, tokenizer or flight "
        "records in it",
        path);
  }
  return describe_tokenizer(path);
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  auto verify = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "inspect",
      "What a checkpoint, model, dataset, run, tokenizer or flight record holds, in words");
  command->add_option("path", *path, "File or directory")->required();
  command->add_flag(
      "--verify", *verify,
      "Read everything: checksums, or that all weights of a model are there and finite");
  command->callback([path, verify] { std::fputs(describe_path(*path, *verify).c_str(), stdout); });
}

}  // namespace forja
