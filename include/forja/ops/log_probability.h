// SPDX-License-Identifier: Apache-2.0
// The end of a softmax over a (possibly split) vocabulary, from the statistics of
// ops/cross_entropy.h.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

// lse = maximum + log(sum_exp); log_probability = target_logit - lse, or 0 where the target is
// negative. All [n]; fp32, targets int32. lse may be maximum.
void log_probability(const Context& ctx, const Tensor& maximum, const Tensor& sum_exp,
                     const Tensor& target_logit, const Tensor& targets, const Tensor& lse,
                     const Tensor& log_probability);

// sum_exp[n] *= exp(maximum[n] - largest[n]): sums of exponentials relative to this part's maximum
// become relative to the largest of all parts, so that they can be added. All [n] fp32.
void rescale_sum_exp(const Context& ctx, const Tensor& maximum, const Tensor& largest,
                     const Tensor& sum_exp);

}  // namespace forja
