// SPDX-License-Identifier: Apache-2.0
// CPU versions of ops/adamw.h; arguments are checked there.
#pragma once

#include "forja/ops/adamw.h"

namespace forja::cpu {

// The factors of a step, the same for all elements; computed in fp64 like PyTorch's.
struct AdamWFactors {
  float gradient_scale, decay, beta1, beta2, one_minus_beta1, one_minus_beta2;
  float inverse_sqrt_correction2, eps, step_size;
  Rounding rounding;
  uint64_t num_updates;
};

// Elements of the scratch of sum_of_squares: sums of the blocks of one range, the largest.
int64_t sum_blocks(const AdamWList& list);
void sum_of_squares(const AdamWList& list, const Tensor& sum, const Tensor& partial);

void begin_adamw_step(const AdamWState& state);
void adamw_step(const AdamWState& state, const AdamWOptions& options, const AdamWList& list);

}  // namespace forja::cpu
