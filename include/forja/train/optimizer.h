// SPDX-License-Identifier: Apache-2.0
// AdamW over a parameter store, with clipping by the global norm. A non-finite gradient changes
// nothing.
#pragma once

#include "forja/comm/communicator.h"
#include "forja/ops/adamw.h"
#include "forja/parallel/parameter_store.h"
#include "forja/parallel/time_split.h"
#include "forja/train/run_config.h"

namespace forja {

class Optimizer {
 public:
  Optimizer(ParameterStore& store, const OptimizerConfig& config, Arena& arena);

  // Of this rank's shards, from the reduced gradients; `copy` are the ranks that hold every
  // gradient once together (Mesh::copy). gradient_norm() reads the norm.
  void step(const Context& ctx, double lr, Communicator& copy, TimeSplit& times);

  double gradient_norm() const;
  int64_t num_updates() const { return *state_.num_updates.ptr<int64_t>(); }
  void set_num_updates(int64_t n) { *state_.num_updates.ptr<int64_t>() = n; }

 private:
  ParameterStore& store_;
  OptimizerConfig config_;
  AdamWState state_;
};

}  // namespace forja
