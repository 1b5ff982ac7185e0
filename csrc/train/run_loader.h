// SPDX-License-Identifier: Apache-2.0
// The weights with which a run starts, goes on, or goes back.
#pragma once

#include <string>
#include <vector>

#include "forja/comm/communicator.h"
#include "forja/train/engine.h"
#include "forja/train/run_config.h"

namespace forja {

class RunLoader {
 public:
  // Throws bad_input where init.from is nothing that can be loaded. Neither is owned.
  RunLoader(const RunConfig& config, Communicator& ranks);

  struct Loaded {
    std::string checkpoint;  // "": none, the run begins
    TrainState state;
    double read_time_s = 0.0;  // from the disk, after the memory has been taken
  };
  // Weights, and moments where `checkpoint` is one; "": as the run begins, for which the moments
  // must be as they were made. The caller says engine.weights_changed().
  Loaded load(TrainEngine& engine, const std::string& checkpoint) const;

  // Loads the first of the run's checkpoints that is whole, on every rank the same; begins the run
  // where there is none to try. Throws bad_input where none of them is whole. Collective.
  Loaded load_newest(TrainEngine& engine, const std::vector<std::string>& checkpoints) const;

 private:
  const RunConfig& config_;
  Communicator& ranks_;
};

}  // namespace forja
