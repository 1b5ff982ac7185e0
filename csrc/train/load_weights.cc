// SPDX-License-Identifier: Apache-2.0
#include "forja/train/load_weights.h"

#include <filesystem>

#include "forja/base/error.h"
#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/checkpoint/peft.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

constexpr int kMaxDepth = 8;  // of models that are made of one another

// Where the rest of the weights is.
std::string base_of_adapter(const std::string& directory) {
  const std::string base = read_peft_config(directory).base;
  if (!fs::is_directory(base)) {
    fail_input(
        "{}: the model that it adapts, {}, is not here; base_model_name_or_path in its "
        "adapter_config.json must name a directory",
        directory, base.empty() ? "of which nothing is said" : base);
  }
  return base;
}

void check_depth(const std::string& from, int depth) {
  if (depth == kMaxDepth) fail_input("{}: what it was made of leads on and on", from);
  if (!fs::exists(from)) fail_input("{}: no such model", from);
}

void check_place(const std::string& from, const ModelConfig& model) {
  if (model.lora.is_on()) return;
  fail_input(
      "{} holds adapters, for which there is no place here: merge them first (forja convert "
      "--merge), or give the run the same lora section",
      from);
}

// What a checkpoint of the run has.
ParameterFilter saved_by(const RunConfig& run) {
  return [rules = run.rules(), adapts = run.model.lora.is_on()](const ParameterSpec& spec) {
    return (adapts || !spec.adapter) && rules.trains(spec);
  };
}

void load(const Context& ctx, const std::string& from, const ModelConfig& model,
          ParameterStore& store, int depth) {
  check_depth(from, depth);
  if (is_peft_directory(from)) {
    check_place(from, model);
    load(ctx, base_of_adapter(from), model, store, depth + 1);
    return load_peft_weights(ctx, from, model, store);
  }
  if (!is_checkpoint(from)) return load_hf_weights(ctx, from, store);
  const RunConfig run = run_of_checkpoint(from);
  if (run.model.lora.is_on()) check_place(from, model);
  if (run.rules().freeze_some()) load(ctx, run.init.from, model, store, depth + 1);
  load_checkpoint(ctx, from, store, CheckpointUse::weights, PageCache::use, saved_by(run));
}

std::unique_ptr<WeightSource> open(const std::string& from, int depth) {
  check_depth(from, depth);
  if (is_peft_directory(from)) {
    return overlay_weights(open(base_of_adapter(from), depth + 1),
                           open_peft_weights(from, model_of(from)),
                           [](const ParameterSpec& spec) { return spec.adapter; });
  }
  if (!is_checkpoint(from)) return open_hf_weights(from);
  const RunConfig run = run_of_checkpoint(from);
  if (!run.rules().freeze_some()) return open_checkpoint_weights(from);
  return overlay_weights(open(run.init.from, depth + 1), open_checkpoint_weights(from),
                         saved_by(run));
}

ModelConfig model_of(const std::string& from, int depth) {
  check_depth(from, depth);
  if (is_checkpoint(from)) return run_of_checkpoint(from).model;
  if (!is_peft_directory(from)) return read_model_config(from + "/config.json");
  ModelConfig model = model_of(base_of_adapter(from), depth + 1);
  if (model.lora.is_on()) fail_input("{}: the model that it adapts has adapters already", from);
  model.lora = read_peft_config(from).lora;
  return model;
}

}  // namespace

RunConfig run_of_checkpoint(const std::string& checkpoint) {
  return read_run_config_text(checkpoint_config(checkpoint), checkpoint + "/config.yaml");
}

ModelConfig model_of(const std::string& from) { return model_of(from, 0); }

void load_weights(const Context& ctx, const std::string& from, const ModelConfig& model,
                  ParameterStore& store) {
  load(ctx, from, model, store, 0);
}

std::unique_ptr<WeightSource> open_weights(const std::string& from) { return open(from, 0); }

}  // namespace forja
