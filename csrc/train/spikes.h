// SPDX-License-Identifier: Apache-2.0
// When a step is a loss spike (train.spikes), and what follows from it. A pure function of the
// steps before, which the state holds: every rank finds the same, and a resumed run what the one
// that never stopped finds.
//
// A value is beyond the limit when it is above mean + threshold x standard deviation of the last
// accepted ones. skip holds the gradient norm against it, before the update: the skip-step
// optimizer of OLMo 2 (Team OLMo, "2 OLMo 2 Furious", 2024, and OLMo-core's SkipStepOptimizer),
// which also holds the loss against one; here what was skipped does not enter the statistics.
// rollback holds the loss against it, which is known after the update only: Chowdhery et al.,
// "PaLM", 2022, section 5.1, restarted by hand from a checkpoint before the spike and left out its
// data.
#pragma once

#include <string>
#include <vector>

#include "forja/checkpoint/checkpoint.h"
#include "forja/train/metrics_log.h"
#include "forja/train/run_config.h"

namespace forja {

// The largest value that is not beyond the limit; infinity while too few are known.
double spike_limit(const SpikeConfig& config, const std::vector<double>& accepted);

// Of the next step, to which they are written; infinity where the action holds nothing against one.
void set_spike_limits(const SpikeConfig& config, const SpikeState& state, StepMetrics& next);

enum class SpikeVerdict {
  none,       // also for a gradient that is not finite: train.non_finite says what to do
  beyond,     // the value is beyond its limit
  new_level,  // ... as often in a row as skip allows: the statistics have begun anew
  rollback,   // ... as often in a row as rollback allows
};
// Takes the step into the state from which its limits came.
SpikeVerdict observe_step(const SpikeConfig& config, const StepMetrics& step, SpikeState& state);

// The checkpoints from before the spike in which the run stands, newest first. The first loss
// beyond the limit is that of the weights which the step before it left: those are not from before.
std::vector<std::string> checkpoints_before_spike(const std::string& directory,
                                                  const TrainState& state);

// Where a run stands that went back from `spike` to `checkpoint`: no sample comes again.
TrainState state_after_rollback(const TrainState& checkpoint, const TrainState& spike);

}  // namespace forja
