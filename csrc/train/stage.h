// SPDX-License-Identifier: Apache-2.0
// A stage of this rank: its part of the model and the memory of the micro-batches that are alive in
// it.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "forja/train/engine.h"

namespace forja {

// The activations of one micro-batch.
struct TrainEngine::Slot {
  std::unique_ptr<Arena> arena;
  DecoderStash stash;
  int microbatch = -1;  // -1: free
  bool computed = false, gradient_sent = false;
  int input_buffer = -1;  // of the stage's receive buffers
  Event input, d_output, sent;
};

struct TrainEngine::Stage {
  int index;
  std::unique_ptr<Decoder> decoder;
  std::vector<Slot> slots;
  std::vector<Tensor> receive_buffers;  // [n, E] inputs from another rank
  // What was received for micro-batches that have no slot yet.
  struct Received {
    int microbatch, buffer;
    Event event;
  };
  std::deque<Received> received;
  std::vector<int> free_buffers;
};

// The most micro-batches alive in a stage at once over the actions of its rank: from forward
// (activations), or from the receive (input buffers), to the end of backward.
struct StageNeeds {
  int slots = 0, receive_buffers = 0;
};
StageNeeds needs_of_stage(const Schedule& schedule, int stage);

}  // namespace forja
