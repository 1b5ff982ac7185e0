// SPDX-License-Identifier: Apache-2.0
// AdamW (ops/adamw.h), fused. Pointers are the device's; everything is asynchronous.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

struct AdamWSettings {
  float lr, beta1, beta2, eps, weight_decay, clip_norm;
};

// What the step's parameters share, on the device.
struct AdamWStep {
  const double* sum_of_squares;  // [1]
  int64_t* num_updates;          // [1]
};

struct AdamWTensors {
  const float* gradient;
  float *weight, *first_moment, *second_moment;
  BFloat16* compute_weight;  // or nullptr
  int64_t count;
};

void begin_adamw_step(const AdamWStep& step, KernelStream stream);
void adamw_step(const AdamWStep& step, const AdamWSettings& settings, const AdamWTensors& tensors,
                KernelStream stream);

}  // namespace forja::kernels
