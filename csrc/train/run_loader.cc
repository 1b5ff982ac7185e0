// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/run_loader.h"

#include <chrono>
#include <filesystem>

#include "csrc/train/agreement.h"
#include "forja/base/error.h"
#include "forja/base/log.h"
#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/checkpoint/peft.h"
#include "forja/train/load_weights.h"
#include "forja/train/run_directory.h"

namespace forja {

RunLoader::RunLoader(const RunConfig& config, Communicator& ranks)
    : config_(config), ranks_(ranks) {
  const std::string& from = config.init.from;
  const bool good =
      from.empty() || is_checkpoint(from) || is_hf_directory(from) || is_peft_directory(from);
  if (!good) {
    fail_input("init.from: {} is {}: expected a checkpoint or a Hugging Face directory", from,
               std::filesystem::exists(from) ? "neither of the two" : "not there");
  }
  if (!config.preference.is_on() || from.empty() || !model_of(from).lora.is_on()) return;
  fail_input(
      "init.from: {} has adapters, without which it would not be the reference of preference.loss "
      "that is meant: merge them first (forja convert --merge)",
      from);
}

RunLoader::Loaded RunLoader::load(TrainEngine& engine, const std::string& checkpoint) const {
  engine.weights_will_change();
  ParameterStore& store = engine.store();
  const bool begins = checkpoint.empty(), all = config_.init.from.empty();
  // What init.from has need not be drawn.
  if (begins) {
    store.initialize(engine.context(), uint64_t(config_.train.seed),
                     [all](const ParameterSpec& spec) { return all || spec.adapter; });
  } else {
    store.clear_states(engine.context());
  }
  Loaded out{checkpoint, {}, 0.0};
  const auto begin = std::chrono::steady_clock::now();
  if (!checkpoint.empty()) {
    // What is frozen is in no checkpoint.
    if (config_.rules().freeze_some())
      load_weights(engine.context(), config_.init.from, config_.model, store);
    // Ranks with copies of the same parameters, or with columns of the same matrices, read the same
    // pieces.
    const StoreOptions& options = store.options();
    const bool alone =
        options.tp_size == 1 && ranks_.size() == options.num_shards * config_.parallel.pp;
    out.state = load_checkpoint(engine.context(), checkpoint, store, CheckpointUse::training,
                                alone ? PageCache::bypass : PageCache::use,
                                [](const ParameterSpec& spec) { return spec.trainable; });
    engine.optimizer().set_num_updates(engine.context(), out.state.num_updates);
  } else if (!config_.init.from.empty()) {
    load_weights(engine.context(), config_.init.from, config_.model, store);
  }
  out.read_time_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return out;
}

RunLoader::Loaded RunLoader::load_newest(TrainEngine& engine,
                                         const std::vector<std::string>& checkpoints) const {
  if (checkpoints.empty()) return load(engine, "");
  const RunDirectory directory(config_.run_directory());
  std::string first_problem;
  for (const std::string& path : checkpoints) {
    std::string problem;
    Loaded out;
    try {
      directory.check_own(config_, path);
      out = load(engine, path);
    } catch (const std::exception& e) {
      problem = e.what();
    }
    problem = first_of_ranks(ranks_, problem);
    if (problem.empty()) return out;
    log_warning("{} cannot be continued from: {}", path, problem);
    if (first_problem.empty()) first_problem = problem;
  }
  fail_input(
      "no checkpoint of {} can be continued from; the newest: {}. Remove {} to start from the "
      "beginning",
      directory.path(), first_problem, directory.checkpoints());
}

}  // namespace forja
