// SPDX-License-Identifier: Apache-2.0
// AdamW over a parameter store, with clipping by the global norm. A gradient that is not finite, or
// whose norm is above a limit, changes nothing.
#pragma once

#include <cmath>

#include "forja/comm/communicator.h"
#include "forja/ops/adamw.h"
#include "forja/parallel/parameter_store.h"
#include "forja/parallel/time_split.h"
#include "forja/train/run_config.h"

namespace forja {

class Optimizer {
 public:
  // The store's memory is in place, and stays there. `seed` is of stochastic rounding.
  Optimizer(const Context& ctx, const ParameterStore& store, const OptimizerConfig& config,
            uint64_t seed, Arena& arena);

  // Of this rank's shards, from the reduced gradients; `copy` are the ranks that hold every
  // gradient once together (Mesh::copy). gradient_norm() reads the norm.
  void step(const Context& ctx, double lr, Communicator& copy, TimeSplit& times);

  // Steps with a larger norm change nothing, from the next one on; infinity: all finite ones count.
  void set_largest_norm(const Context& ctx, double norm);

  // Of the last step. On a GPU they are there after the next synchronize(ctx).
  double gradient_norm() const { return std::sqrt(sum_of_squares_); }
  bool skipped() const { return !(sum_of_squares_ <= largest_sum_); }
  int64_t num_updates() const { return num_updates_; }
  void set_num_updates(const Context& ctx, int64_t n);

 private:
  OptimizerConfig config_;
  AdamWList list_;  // of the store's parameters
  AdamWState state_;
  // The host's copies of it.
  double sum_of_squares_ = 0.0, largest_sum_ = 0.0;
  int64_t num_updates_ = 0;
};

}  // namespace forja
