// SPDX-License-Identifier: Apache-2.0
// The learning rate of a step: warm-up, then constant, linear, cosine or warmup-stable-decay.
// Sources: Loshchilov and Hutter, "SGDR", 2017 (cosine); Hu et al., "MiniCPM", 2024
// (warmup-stable-decay).
#pragma once

#include <cstdint>
#include <string>

#include "forja/base/config.h"

namespace forja {

struct LrScheduleConfig {
  std::string name = "cosine";  // constant, linear, cosine, wsd
  int64_t warmup_steps = 0;
  double min_lr = 0.0;
  int64_t decay_steps =
      0;  // wsd: the last steps, over which lr falls to min_lr; 0: a tenth of the run

  void visit(ConfigVisitor& v);
};

// `step` counts from 1. Warm-up rises linearly and reaches `peak` at step warmup_steps; min_lr is
// reached at the last step.
double learning_rate(const LrScheduleConfig& schedule, double peak, int64_t step,
                     int64_t total_steps);

}  // namespace forja
