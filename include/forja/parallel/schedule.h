// SPDX-License-Identifier: Apache-2.0
// Schedules are data: a pure function gives each rank its list of actions, an executor runs it.
#pragma once

#include <vector>

namespace forja {

enum class ActionKind { forward, backward, reduce_gradients };

struct Action {
  ActionKind kind;
  int stage = 0;
  int microbatch = 0;  // reduce_gradients: the last one, whose backward completes the gradients
};

// One stage: forward and backward of each micro-batch in turn, then the reduction.
std::vector<Action> single_stage_schedule(int num_microbatches);

}  // namespace forja
