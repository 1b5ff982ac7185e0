// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/spikes.h"

#include <algorithm>
#include <cmath>

namespace forja {
namespace {

void keep_last(std::vector<double>& values, int64_t count) {
  const int64_t extra = int64_t(values.size()) - count;
  if (extra > 0) values.erase(values.begin(), values.begin() + extra);
}

}  // namespace

double spike_limit(const SpikeConfig& config, const std::vector<double>& accepted) {
  const auto n = int64_t(accepted.size());
  if (n < config.window / 2) return INFINITY;
  double mean = 0.0, variance = 0.0;
  for (double x : accepted) mean += x / double(n);
  for (double x : accepted) variance += (x - mean) * (x - mean) / double(n - 1);
  return mean + config.threshold * std::sqrt(variance);
}

void set_spike_limits(const SpikeConfig& config, const SpikeState& state, StepMetrics& next) {
  if (config.action == "skip") next.gradient_norm_limit = spike_limit(config, state.gradient_norms);
  if (config.action == "rollback") next.loss_limit = spike_limit(config, state.losses);
  next.rollbacks = state.rollbacks;
}

SpikeVerdict observe_step(const SpikeConfig& config, const StepMetrics& step, SpikeState& state) {
  if (config.action == "none") state = {};
  if (config.action == "none" || !std::isfinite(step.gradient_norm) || !std::isfinite(step.loss))
    return SpikeVerdict::none;
  if (!step.skipped && step.loss <= step.loss_limit) {
    state.losses.push_back(step.loss);
    state.gradient_norms.push_back(step.gradient_norm);
    keep_last(state.losses, config.window);
    keep_last(state.gradient_norms, config.window);
    state.began = 0;
    if (step.step > state.rolled_back_from) state.rollbacks = 0;
    return SpikeVerdict::none;
  }
  if (state.began == 0) state.began = step.step;
  if (step.step - state.began + 1 < config.patience) return SpikeVerdict::beyond;
  if (config.action == "rollback") return SpikeVerdict::rollback;
  state = {};
  return SpikeVerdict::new_level;
}

std::vector<std::string> checkpoints_before_spike(const std::string& directory,
                                                  const TrainState& state) {
  const SpikeState& spikes = state.spikes;
  const int64_t last = std::max(spikes.began - 2, spikes.rollbacks > 0 ? spikes.rolled_back_to : 0);
  std::vector<std::string> out = list_checkpoints(directory);
  std::erase_if(out, [&](const std::string& path) { return step_of_checkpoint(path) > last; });
  return out;
}

TrainState state_after_rollback(const TrainState& checkpoint, const TrainState& spike) {
  TrainState out = checkpoint;
  out.samples = spike.samples;
  out.spikes.began = 0;
  out.spikes.rollbacks = spike.spikes.rollbacks + 1;
  out.spikes.rolled_back_from = spike.step;
  out.spikes.rolled_back_to = checkpoint.step;
  return out;
}

}  // namespace forja
