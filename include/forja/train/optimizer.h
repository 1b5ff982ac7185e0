// SPDX-License-Identifier: Apache-2.0
// AdamW over a parameter store, with clipping by the global norm. A non-finite gradient changes
// nothing.
#pragma once

#include "forja/ops/adamw.h"
#include "forja/parallel/parameter.h"
#include "forja/train/run_config.h"

namespace forja {

class Optimizer {
 public:
  Optimizer(ParameterStore& store, const OptimizerConfig& config, Arena& arena);

  // From the reduced gradients. Returns after enqueuing; gradient_norm() reads the result.
  void step(const Context& ctx, double lr);

  double gradient_norm() const;
  int64_t num_updates() const { return *state_.num_updates.ptr<int64_t>(); }
  void set_num_updates(int64_t n) { *state_.num_updates.ptr<int64_t>() = n; }

 private:
  ParameterStore& store_;
  OptimizerConfig config_;
  AdamWState state_;
};

}  // namespace forja
