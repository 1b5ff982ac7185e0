// SPDX-License-Identifier: Apache-2.0
// CPU versions of ops/adamw.h; arguments are checked there.
#pragma once

#include "forja/ops/adamw.h"

namespace forja::cpu {

// The factors of a step, the same for all elements; computed in fp64 like PyTorch's.
struct AdamWFactors {
  float gradient_scale, decay, beta1, beta2, one_minus_beta1, one_minus_beta2;
  float inverse_sqrt_correction2, eps, step_size;
};

struct AdamWPointers {
  const float* gradient;
  float* weight;
  float* first_moment;
  float* second_moment;
  BFloat16* compute_weight;
};

void begin_adamw_step(const AdamWState& state);
void adamw_step(const AdamWState& state, const AdamWOptions& options, const Tensor& gradient,
                const Tensor& weight, const Tensor& first_moment, const Tensor& second_moment,
                const Tensor& compute_weight);

}  // namespace forja::cpu
