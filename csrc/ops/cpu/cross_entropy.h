// SPDX-License-Identifier: Apache-2.0
// CPU versions of ops/cross_entropy.h; arguments are checked there.
#pragma once

#include "forja/tensor/tensor.h"

namespace forja::cpu {

void softmax_statistics(const Tensor& logits, const Tensor& targets, int64_t first_column,
                        const Tensor& maximum, const Tensor& sum_exp, const Tensor& target_logit);
void softmax_gradient(const Tensor& logits, const Tensor& targets, int64_t first_column,
                      const Tensor& lse, const Tensor& coefficient, const Tensor& dlogits);

}  // namespace forja::cpu
