// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/spike_guard.h"

#include <utility>

#include "csrc/train/agreement.h"
#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/base/log.h"

namespace forja {

SpikeGuard::SpikeGuard(const SpikeConfig& config, std::string checkpoints, const RunLoader& loader,
                       TrainEngine& engine, RunSaver& saver, Communicator& ranks)
    : config_(config),
      checkpoints_(std::move(checkpoints)),
      loader_(loader),
      engine_(engine),
      saver_(saver),
      ranks_(ranks) {}

bool SpikeGuard::after_step(const StepMetrics& step, TrainState& state) {
  const SpikeVerdict verdict = observe_step(config_, step, state.spikes);
  tell(verdict, step, state);
  return verdict == SpikeVerdict::rollback && go_back(step, state);
}

void SpikeGuard::tell(SpikeVerdict verdict, const StepMetrics& step,
                      const TrainState& state) const {
  if (verdict == SpikeVerdict::none) return;
  log_live("");
  if (step.skipped) {
    log_warning("step {} changed nothing: its gradient norm {:.4g} is above the limit of {:.4g}",
                step.step, step.gradient_norm, step.gradient_norm_limit);
  } else if (state.spikes.began == step.step) {
    log_warning(
        "step {}: the loss {:.4f} is above the limit of {:.4f}; the run goes back if it "
        "stays there for {} steps",
        step.step, step.loss, step.loss_limit, config_.patience);
  }
  if (verdict == SpikeVerdict::new_level) {
    log_warning(
        "step {}: {} steps in a row were skipped; the gradient norm is taken to be at a new "
        "level, and no step is skipped until it is known",
        step.step, config_.patience);
  }
}

void SpikeGuard::give_up(const StepMetrics& step, const TrainState& state) {
  saver_.finish();
  fail(
      "step {}: the loss {:.4f} is above the limit of {:.4f} again, after {} rollbacks: other data "
      "does not help. A new run can start from the weights of a checkpoint in {} (init.from) with "
      "a lower optimizer.lr, a longer warm-up or a smaller optimizer.clip_norm; "
      "train.spikes.action=none goes on from the newest one as it is",
      step.step, step.loss, step.loss_limit, state.spikes.rollbacks, checkpoints_);
}

bool SpikeGuard::go_back(const StepMetrics& step, TrainState& state) {
  if (state.spikes.rollbacks >= config_.max_rollbacks) give_up(step, state);
  saver_.finish();
  const std::vector<std::string> paths = checkpoints_before_spike(checkpoints_, state);
  agree_on(ranks_, "checkpoint to go back to", hash_text(paths.empty() ? "" : paths[0]));
  if (paths.empty()) {
    log_warning(
        "step {}: there is no checkpoint from before step {} to go back to: the run goes "
        "on, and the loss is taken to be at a new level",
        step.step, state.spikes.began);
    state.spikes = {};
    return false;
  }
  const TrainState spike = state;
  const RunLoader::Loaded loaded = loader_.load_newest(engine_, paths);
  engine_.weights_changed();
  state = state_after_rollback(loaded.state, spike);
  settle(loaded.checkpoint, state);
  log_warning(
      "step {}: the loss was above the limit for {} steps: back to step {}, and on with the "
      "data after sample {} (rollback {} of at most {} for this spike)",
      step.step, spike.step - spike.spikes.began + 1, state.step, state.samples,
      state.spikes.rollbacks, config_.max_rollbacks);
  return true;
}

// In this order: killed in between, the run starts from the checkpoint as it was, or from one
// within the spike, and comes to the same rollback.
void SpikeGuard::settle(const std::string& checkpoint, const TrainState& state) {
  std::string problem;
  try {
    if (ranks_.rank() == 0) {
      remove_checkpoints_after(checkpoints_, state.step);
      replace_checkpoint_state(checkpoint, state);
    }
  } catch (const std::exception& e) {
    problem = e.what();
  }
  problem = first_of_ranks(ranks_, problem);
  if (!problem.empty()) fail("the run cannot go back to {}: {}", checkpoint, problem);
}

}  // namespace forja
