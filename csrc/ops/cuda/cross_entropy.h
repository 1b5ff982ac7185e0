// SPDX-License-Identifier: Apache-2.0
// ops/cross_entropy.h and ops/log_probability.h on a GPU; arguments are checked there.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja::cuda {

void softmax_statistics(const Context& ctx, const Tensor& logits, const Tensor& targets,
                        int64_t first_column, const Tensor& maximum, const Tensor& sum_exp,
                        const Tensor& target_logit);
void softmax_gradient(const Context& ctx, const Tensor& logits, const Tensor& targets,
                      int64_t first_column, const Tensor& lse, const Tensor& coefficient,
                      const Tensor& dlogits);
void log_probability(const Context& ctx, const Tensor& maximum, const Tensor& sum_exp,
                     const Tensor& target_logit, const Tensor& targets, const Tensor& lse,
                     const Tensor& log_probability);
void rescale_sum_exp(const Context& ctx, const Tensor& maximum, const Tensor& largest,
                     const Tensor& sum_exp);

}  // namespace forja::cuda
