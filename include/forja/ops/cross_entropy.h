// SPDX-License-Identifier: Apache-2.0
// The two passes over a chunk of logits from which the classifier (nn/head) is built. The first
// gives partial results that vocabulary-parallel ranks can combine, the second turns logits into
// their gradient.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

// Legend: n tokens, v columns of the vocabulary in this part, first_column the global index of the
// first one.
//   logits [n, v] fp32 or bf16 (rows may be strided), targets [n] int32 global indices (negative:
//   no target). maximum, sum_exp, target_logit [n] fp32: max over the columns, sum of exp(logit -
//   max), and the target's logit (0 where the target is not among these columns).
void softmax_statistics(const Context& ctx, const Tensor& logits, const Tensor& targets,
                        int64_t first_column, const Tensor& maximum, const Tensor& sum_exp,
                        const Tensor& target_logit);

// Gradient of sum_n coefficient[n] * log_probability[n] with respect to the logits, times -1:
//   dlogits[n, c] = coefficient[n] * (exp(logits[n, c] - lse[n]) - [c is the target]).
// With coefficient = 1 / number of targets this is the gradient of the mean cross-entropy.
//   lse, coefficient [n] fp32; dlogits [n, v] fp32 or bf16, may be logits when the dtypes agree.
// Rows with coefficient 0 give zeros, whatever the logits.
void softmax_gradient(const Context& ctx, const Tensor& logits, const Tensor& targets,
                      int64_t first_column, const Tensor& lse, const Tensor& coefficient,
                      const Tensor& dlogits);

}  // namespace forja
