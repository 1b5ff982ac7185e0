// SPDX-License-Identifier: Apache-2.0
// A stage of this rank: its part of the model and the memory of the micro-batches that are alive in
// it; and what the actions of a schedule do with them.
#pragma once

#include <memory>
#include <vector>

#include "forja/train/engine.h"

namespace forja {

// The activations of one micro-batch.
struct TrainEngine::Slot {
  std::unique_ptr<Arena> arena;
  DecoderStash stash;
};

struct TrainEngine::Stage {
  int index;
  std::unique_ptr<Decoder> decoder;
  std::vector<Slot> slots;
};

struct TrainEngine::Work : PipelineWork {
  explicit Work(TrainEngine& e) : engine(e) {}

  Transfers open_slot(int local, int slot) override;
  void forward(int local, int slot, int microbatch, const Tensor& input) override;
  void backward(int local, int slot, int microbatch, BackwardPart part, bool completes) override;
  void reduce_gradients(int local) override;

  TrainEngine& engine;
  int64_t step = 0;
};

}  // namespace forja
