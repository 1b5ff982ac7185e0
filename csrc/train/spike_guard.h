// SPDX-License-Identifier: Apache-2.0
// What a run does about loss spikes (train.spikes): tells of them, and goes back behind one.
#pragma once

#include <string>

#include "csrc/train/run_loader.h"
#include "csrc/train/run_saver.h"
#include "csrc/train/spikes.h"

namespace forja {

class SpikeGuard {
 public:
  // Nothing is owned; the run's checkpoints are in `checkpoints`.
  SpikeGuard(const SpikeConfig& config, std::string checkpoints, const RunLoader& loader,
             TrainEngine& engine, RunSaver& saver, Communicator& ranks);

  // Takes the step that `state` has come to into its statistics. True: the run went back. Weights,
  // moments and state are then those of the newest whole checkpoint from before the spike, but no
  // sample comes again; the checkpoint says so too, and later ones are gone: a run that is started
  // again goes the same way. Throws where the spike was not passed by as many rollbacks as are
  // allowed. Collective.
  bool after_step(const StepMetrics& step, TrainState& state);

  // While steps are above the limit nothing is saved that would push out what to go back to.
  bool holds_back_saves(const TrainState& state) const {
    return config_.action == "rollback" && state.spikes.began > 0;
  }

 private:
  void tell(SpikeVerdict verdict, const StepMetrics& step, const TrainState& state) const;
  [[noreturn]] void give_up(const StepMetrics& step, const TrainState& state);
  bool go_back(const StepMetrics& step, TrainState& state);
  void settle(const std::string& checkpoint, const TrainState& state);

  SpikeConfig config_;
  std::string checkpoints_;
  const RunLoader& loader_;
  TrainEngine& engine_;
  RunSaver& saver_;
  Communicator& ranks_;
};

}  // namespace forja
