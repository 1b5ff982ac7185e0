// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/cross_entropy.h"

#include "csrc/ops/cpu/cross_entropy.h"
#include "csrc/ops/cuda/cross_entropy.h"
#include "csrc/ops/dispatch.h"

namespace forja {
namespace {

void check_logits(const char* op, const Tensor& logits, const Tensor& targets) {
  check_float(op, "logits", logits);
  check_rank(op, "logits", logits, 2);
  check_last_dim_contiguous(op, "logits", logits);
  check_dtype(op, "targets", targets, DType::i32);
  check_shape(op, "targets", targets, {logits.size(0)});
  check_contiguous(op, "targets", targets);
}

void check_per_token(const char* op, const char* name, const Tensor& t, const Tensor& logits) {
  check_dtype(op, name, t, DType::f32);
  check_shape(op, name, t, {logits.size(0)});
  check_contiguous(op, name, t);
}

}  // namespace

void softmax_statistics(const Context& ctx, const Tensor& logits, const Tensor& targets,
                        int64_t first_column, const Tensor& maximum, const Tensor& sum_exp,
                        const Tensor& target_logit) {
  constexpr const char* kOp = "softmax_statistics";
  check_logits(kOp, logits, targets);
  check_per_token(kOp, "maximum", maximum, logits);
  check_per_token(kOp, "sum_exp", sum_exp, logits);
  check_per_token(kOp, "target_logit", target_logit, logits);
  if (!ctx.device.is_cpu()) {
    return cuda::softmax_statistics(ctx, logits, targets, first_column, maximum, sum_exp,
                                    target_logit);
  }
  if (ctx.planning()) return;
  cpu::softmax_statistics(logits, targets, first_column, maximum, sum_exp, target_logit);
}

void softmax_gradient(const Context& ctx, const Tensor& logits, const Tensor& targets,
                      int64_t first_column, const Tensor& lse, const Tensor& coefficient,
                      const Tensor& dlogits) {
  constexpr const char* kOp = "softmax_gradient";
  check_logits(kOp, logits, targets);
  check_per_token(kOp, "lse", lse, logits);
  check_per_token(kOp, "coefficient", coefficient, logits);
  check_float(kOp, "dlogits", dlogits);
  check_shape(kOp, "dlogits", dlogits, {logits.size(0), logits.size(1)});
  check_last_dim_contiguous(kOp, "dlogits", dlogits);
  FORJA_CHECK(
      dlogits.data != logits.data || dlogits.dtype == logits.dtype || logits.data == nullptr,
      "{}: dlogits {} may be logits {} only with the same dtype", kOp, dlogits.to_string(),
      logits.to_string());
  if (!ctx.device.is_cpu()) {
    return cuda::softmax_gradient(ctx, logits, targets, first_column, lse, coefficient, dlogits);
  }
  if (ctx.planning()) return;
  cpu::softmax_gradient(logits, targets, first_column, lse, coefficient, dlogits);
}

}  // namespace forja
