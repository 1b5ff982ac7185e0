// SPDX-License-Identifier: Apache-2.0
// The checkpoints of a run: when training waits for them, and what is said of them.
#pragma once

#include <chrono>
#include <string>

#include "forja/base/error.h"
#include "forja/checkpoint/checkpoint_writer.h"
#include "forja/train/engine.h"
#include "forja/train/run_config.h"
#include "forja/train/run_directory.h"

namespace forja {

// Every call but time_needed_s() is collective. A save that fails is a warning: the run goes on.
class RunSaver {
 public:
  // The engine and the ranks are not owned.
  RunSaver(TrainEngine& engine, const RunConfig& config, const RunDirectory& directory,
           Communicator& ranks);

  // must: the run ends here, so a failure is its failure and is thrown, and nothing is left to do
  // when this returns.
  void save(const TrainState& state, bool must);
  // At the end of a step: a save under way goes on.
  void poll() { advance(&CheckpointWriter::poll); }
  // Waits for it.
  void finish() { advance(&CheckpointWriter::wait); }

  // For a last save, behind one under way; `guess_s` is for one while none has ended.
  double time_needed_s(double guess_s) const;

 private:
  using Clock = std::chrono::steady_clock;

  void advance(void (CheckpointWriter::*how)());
  void on_progress(Clock::time_point begin);
  void warn(const Error& e) const;

  TrainEngine& engine_;
  bool is_async_;
  CheckpointWriter writer_;
  Clock::time_point began_;                 // the save that is, or was, under way
  double stall_s_ = 0.0, longest_s_ = 0.0;  // how long training has waited for it; of all saves
  bool told_of_waiting_ = false;
};

}  // namespace forja
