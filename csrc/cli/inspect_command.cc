// SPDX-License-Identifier: Apache-2.0
// forja inspect PATH [--verify]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "forja/base/text.h"
#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/cli/commands.h"
#include "forja/data/dataset.h"
#include "forja/data/tokenizer.h"
#include "forja/nn/decoder.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

std::string describe_hf_directory(const std::string& path) {
  const ModelConfig model = read_model_config(path + "/config.json");
  const HfTensors tensors(path);
  std::string out = fmt::format(
      "Hugging Face model: {}, {} layers, hidden size {}, vocabulary {}, {} parameters\n",
      model.model_type, model.num_hidden_layers, model.hidden_size, model.vocab_size,
      count_parameters(model));
  for (const std::string& name : tensors.names()) {
    out += fmt::format("  {:<60} {}\n", name, tensors.tensor(name).to_string());
  }
  return out;
}

std::string describe_run(const std::string& path, bool verify) {
  const auto latest = latest_checkpoint(path + "/checkpoints");
  if (!latest) return fmt::format("run directory without a checkpoint: {}\n", path);
  return fmt::format("run directory; newest checkpoint: {}\n{}", *latest,
                     describe_checkpoint(*latest, verify));
}

bool has_tokenizer(const std::string& path) {
  return !fs::is_directory(path) || fs::exists(path + "/tokenizer.json") ||
         fs::exists(path + "/tokenizer.model");
}

std::string describe_path(const std::string& path, bool verify) {
  if (!fs::exists(path)) fail_input("no such file or directory: {}", path);
  if (is_checkpoint(path)) return describe_checkpoint(path, verify);
  if (fs::exists(path + "/checkpoints")) return describe_run(path, verify);
  if (is_hf_directory(path)) return describe_hf_directory(path);
  if (fs::exists(path + "/manifest.json")) return describe_dataset(path, verify);
  if (!has_tokenizer(path)) {
    fail_input("{}: expected a run, checkpoint, Hugging Face model, dataset or tokenizer in it",
               path);
  }
  return describe_tokenizer(path);
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  auto verify = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "inspect", "What a checkpoint, model, dataset, run or tokenizer holds, in words");
  command->add_option("path", *path, "File or directory")->required();
  command->add_flag("--verify", *verify, "Check every checksum");
  command->callback([path, verify] { std::fputs(describe_path(*path, *verify).c_str(), stdout); });
}

}  // namespace forja
