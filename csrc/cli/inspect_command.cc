// SPDX-License-Identifier: Apache-2.0
// forja inspect PATH [--verify] [--sequence-length N]
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "csrc/cli/checks.h"
#include "csrc/cli/load_model.h"
#include "forja/base/text.h"
#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/checkpoint/peft.h"
#include "forja/cli/commands.h"
#include "forja/comm/flight_record.h"
#include "forja/data/dataset.h"
#include "forja/data/sample_rows.h"
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

SampleStyle sample_style() {
  const bool colours = ::isatty(STDOUT_FILENO) && !std::getenv("NO_COLOR");
  return colours ? SampleStyle::colours : SampleStyle::brackets;
}

// How the samples of a dataset fill rows.
std::string describe_rows(const std::string& path, int64_t sequence_length) {
  if (!is_dataset(path))
    fail_input("--sequence-length is of a dataset of samples: {} is none", path);
  const SamplesConfig usual;
  const SampleRows rows(Dataset(path), usual, sequence_length);
  return fmt::format("  {:<18}{}\n", "rows", rows.in_words());
}

std::string describe_path(const std::string& path, bool verify) {
  if (!fs::exists(path)) fail_input("no such file or directory: {}", path);
  if (is_checkpoint(path)) return describe_checkpoint(path, verify);
  if (fs::exists(path + "/checkpoints")) return describe_run(path, verify);
  if (fs::exists(path + "/rank-00000")) return describe_flight_records(path, kFlightEvents);
  if (is_hf_directory(path)) return describe_hf_directory(path, verify);
  if (is_peft_directory(path)) return describe_peft_adapter(path);
  if (fs::exists(path + "/manifest.json")) return describe_dataset(path, verify, sample_style());
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
  auto sequence_length = std::make_shared<int64_t>(0);
  CLI::App* command = app.add_subcommand(
      "inspect",
      "What a checkpoint, model, dataset, run, tokenizer or flight record holds, in words");
  command->add_option("path", *path, "File or directory")->required();
  command->add_flag(
      "--verify", *verify,
      "Read everything: checksums, or that all weights of a model are there and finite");
  command
      ->add_option("--sequence-length", *sequence_length,
                   "Of samples to fine-tune on: how full rows of so many tokens are")
      ->check(number_from(1));
  command->callback([path, verify, sequence_length] {
    std::string text = describe_path(*path, *verify);
    if (*sequence_length > 0) text += describe_rows(*path, *sequence_length);
    std::fputs(text.c_str(), stdout);
  });
}

}  // namespace forja
