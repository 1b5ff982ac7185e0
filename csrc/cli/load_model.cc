// SPDX-License-Identifier: Apache-2.0
#include "csrc/cli/load_model.h"

#include <filesystem>

#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/train/run_config.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

// The tokenizer of a run: the one its config names, else the copy in its training data.
std::string tokenizer_of(const RunConfig& config) {
  if (fs::exists(config.data.tokenizer)) return config.data.tokenizer;
  for (const TrainDataConfig& source : config.data.train) {
    if (fs::exists(source.path)) return source.path;
  }
  fail_input("the run's tokenizer {} is gone, and so is its data: give --tokenizer",
             config.data.tokenizer);
}

}  // namespace

ModelSource find_model(const std::string& path, const std::string& tokenizer) {
  if (!fs::is_directory(path))
    fail_input("no model at {}: expected a run, a checkpoint or a Hugging Face directory", path);
  if (is_hf_directory(path)) {
    return {path, tokenizer.empty() ? path : tokenizer, read_model_config(path + "/config.json")};
  }
  std::string checkpoint = path;
  if (!is_checkpoint(path)) {
    const auto latest = latest_checkpoint(path + "/checkpoints");
    if (!latest) fail_input("{} holds neither a checkpoint nor a Hugging Face model", path);
    checkpoint = *latest;
  }
  const RunConfig config =
      read_run_config_text(checkpoint_config(checkpoint), checkpoint + "/config.yaml");
  return {checkpoint, tokenizer.empty() ? tokenizer_of(config) : tokenizer, config.model};
}

std::unique_ptr<Generator> make_generator(const ModelSource& source, DType dtype,
                                          int64_t num_sequences, int64_t max_tokens) {
  return std::make_unique<Generator>(source.model, dtype, num_sequences, max_tokens,
                                     [&](const Context& ctx, ParameterStore& store) {
                                       if (is_checkpoint(source.weights)) {
                                         load_checkpoint(ctx, source.weights, store,
                                                         CheckpointUse::weights);
                                       } else {
                                         load_hf_weights(ctx, source.weights, store);
                                       }
                                     });
}

}  // namespace forja
