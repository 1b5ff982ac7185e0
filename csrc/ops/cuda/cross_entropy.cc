// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/cross_entropy.h"

#include "csrc/ops/cuda/arguments.h"
#include "kernels/loss/cross_entropy.h"

namespace forja::cuda {
namespace {

kernels::Logits logits_of(const Context& ctx, const Tensor& logits, const Tensor& targets,
                          int64_t first_column) {
  return {data(ctx, logits), logits.dtype,     logits.size(0),
          logits.size(1),    logits.stride(0), typed<int32_t>(ctx, targets),
          first_column};
}

}  // namespace

void softmax_statistics(const Context& ctx, const Tensor& logits, const Tensor& targets,
                        int64_t first_column, const Tensor& maximum, const Tensor& sum_exp,
                        const Tensor& target_logit) {
  if (ctx.planning()) return;
  kernels::softmax_statistics(logits_of(ctx, logits, targets, first_column),
                              typed<float>(ctx, maximum), typed<float>(ctx, sum_exp),
                              typed<float>(ctx, target_logit), ctx.stream);
}

void softmax_gradient(const Context& ctx, const Tensor& logits, const Tensor& targets,
                      int64_t first_column, const Tensor& lse, const Tensor& coefficient,
                      const Tensor& dlogits) {
  if (ctx.planning()) return;
  kernels::softmax_gradient(logits_of(ctx, logits, targets, first_column), typed<float>(ctx, lse),
                            typed<float>(ctx, coefficient), data(ctx, dlogits), dlogits.dtype,
                            dlogits.stride(0), ctx.stream);
}

void log_probability(const Context& ctx, const Tensor& maximum, const Tensor& sum_exp,
                     const Tensor& target_logit, const Tensor& targets, const Tensor& lse,
                     const Tensor& log_probability) {
  if (ctx.planning()) return;
  kernels::log_probability(typed<float>(ctx, maximum), typed<float>(ctx, sum_exp),
                           typed<float>(ctx, target_logit), typed<int32_t>(ctx, targets),
                           typed<float>(ctx, lse), typed<float>(ctx, log_probability),
                           targets.num_elements(), ctx.stream);
}

void rescale_sum_exp(const Context& ctx, const Tensor& maximum, const Tensor& largest,
                     const Tensor& sum_exp) {
  if (ctx.planning()) return;
  kernels::rescale_sum_exp(typed<float>(ctx, maximum), typed<float>(ctx, largest),
                           typed<float>(ctx, sum_exp), sum_exp.num_elements(), ctx.stream);
}

}  // namespace forja::cuda
