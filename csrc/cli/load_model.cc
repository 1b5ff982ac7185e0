// SPDX-License-Identifier: Apache-2.0
#include "csrc/cli/load_model.h"

#include <filesystem>

#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/checkpoint/peft.h"

namespace forja {
namespace fs = std::filesystem;

bool has_tokenizer(const std::string& path) {
  if (!fs::is_directory(path)) return fs::exists(path);
  return fs::exists(path + "/tokenizer.json") || fs::exists(path + "/tokenizer.model");
}

std::string find_checkpoint(const std::string& path) {
  if (is_checkpoint(path)) return path;
  const auto latest = latest_checkpoint(path + "/checkpoints");
  if (!latest) fail_input("{} holds neither a checkpoint nor a Hugging Face model", path);
  return *latest;
}

std::string tokenizer_of_run(const RunConfig& run) {
  if (has_tokenizer(run.data.tokenizer)) return run.data.tokenizer;
  for (const TrainDataConfig& source : run.data.train) {
    if (has_tokenizer(source.path)) return source.path;
  }
  return "";
}

ModelSource find_model(const std::string& path, const std::string& tokenizer) {
  if (!fs::is_directory(path))
    fail_input("no model at {}: expected a run, a checkpoint or a Hugging Face directory", path);
  if (is_hf_directory(path)) return {path, tokenizer.empty() ? path : tokenizer, model_of(path)};
  if (is_peft_directory(path)) {
    const bool own = !tokenizer.empty() || has_tokenizer(path);
    ModelSource out{path, tokenizer.empty() ? path : tokenizer, model_of(path)};
    if (!own) out.tokenizer = find_model(read_peft_config(path).base, "").tokenizer;
    return out;
  }
  const std::string checkpoint = find_checkpoint(path);
  const RunConfig run = run_of_checkpoint(checkpoint);
  const std::string own = tokenizer_of_run(run);
  if (tokenizer.empty() && own.empty()) {
    fail_input("the run's tokenizer {} is gone, and so is its data: give --tokenizer",
               run.data.tokenizer);
  }
  return {checkpoint, tokenizer.empty() ? own : tokenizer, run.model};
}

std::unique_ptr<Generator> make_generator(const ModelSource& source, DType dtype,
                                          int64_t num_sequences, int64_t max_tokens) {
  return std::make_unique<Generator>(source.model, dtype, num_sequences, max_tokens,
                                     [&](const Context& ctx, ParameterStore& store) {
                                       load_weights(ctx, source.weights, source.model, store);
                                     });
}

}  // namespace forja
