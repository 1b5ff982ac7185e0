// SPDX-License-Identifier: Apache-2.0
// The parity check: one step in the chosen layout and in the simplest one that fits must agree.
#pragma once

#include <functional>

#include "forja/comm/world.h"
#include "forja/train/engine.h"

namespace forja {

struct FirstStep {
  // The engine of a layout with `dp` data-parallel ranks, whose `parallel` section is set by the
  // caller of it. Throws bad_input where the batch does not divide.
  std::function<EngineConfig(int dp)> config;
  // Fills the weights of the engine as the run starts with them.
  std::function<void(TrainEngine&)> load;
  // Samples [first, first + count) of the step.
  std::function<Tensor(int64_t first, int64_t count, const MicroBatch& batch)> fill;
  int64_t batch_size;
  int64_t step;
};

// Collective over the world. Says what was compared; throws (failed) when loss or gradient norm
// differ by more than `precision` allows, and bad_input when no simpler layout fits into memory.
void verify_layout(const FirstStep& first, const ParallelDims& dims, World& world);

}  // namespace forja
