// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/log_probability.h"

#include <cmath>

#include "csrc/ops/cuda/cross_entropy.h"

namespace forja {

void log_probability(const Context& ctx, const Tensor& maximum, const Tensor& sum_exp,
                     const Tensor& target_logit, const Tensor& targets, const Tensor& lse,
                     const Tensor& log_probability) {
  const int64_t n = targets.num_elements();
  for (const Tensor* t : {&maximum, &sum_exp, &target_logit, &lse, &log_probability}) {
    FORJA_CHECK(t->dtype == DType::f32 && t->is_contiguous() && t->num_elements() == n,
                "log_probability: {} for {} targets", t->to_string(), n);
  }
  FORJA_CHECK(targets.dtype == DType::i32, "log_probability: targets {}", targets.to_string());
  if (!ctx.device.is_cpu()) {
    return cuda::log_probability(ctx, maximum, sum_exp, target_logit, targets, lse,
                                 log_probability);
  }
  if (ctx.planning()) return;
  for (int64_t i = 0; i < n; ++i) {
    const float log_sum = maximum.ptr<float>()[i] + std::log(sum_exp.ptr<float>()[i]);
    const bool has_target = targets.ptr<int32_t>()[i] >= 0;
    log_probability.ptr<float>()[i] = has_target ? target_logit.ptr<float>()[i] - log_sum : 0.0f;
    lse.ptr<float>()[i] = log_sum;
  }
}

void rescale_sum_exp(const Context& ctx, const Tensor& maximum, const Tensor& largest,
                     const Tensor& sum_exp) {
  const int64_t n = sum_exp.num_elements();
  for (const Tensor* t : {&maximum, &largest, &sum_exp}) {
    FORJA_CHECK(t->dtype == DType::f32 && t->is_contiguous() && t->num_elements() == n,
                "rescale_sum_exp: {} for {} tokens", t->to_string(), n);
  }
  if (!ctx.device.is_cpu()) return cuda::rescale_sum_exp(ctx, maximum, largest, sum_exp);
  if (ctx.planning()) return;
  for (int64_t i = 0; i < n; ++i)
    sum_exp.ptr<float>()[i] *= std::exp(maximum.ptr<float>()[i] - largest.ptr<float>()[i]);
}

}  // namespace forja
