// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/rms_norm.h"

#include "csrc/ops/cpu/rms_norm.h"
#include "csrc/ops/cuda/norm.h"
#include "csrc/ops/norm_arguments.h"

namespace forja {

void rms_norm_forward(const Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& y,
                      const Tensor& rstd, float eps) {
  constexpr const char* kOp = "rms_norm_forward";
  check_norm_rows(kOp, "x", x);
  check_same(kOp, "y", y, x);
  check_norm_weight(kOp, "weight", weight, x);
  check_norm_statistic(kOp, "rstd", rstd, x);
  if (!ctx.device.is_cpu()) return cuda::rms_norm_forward(ctx, x, {}, weight, {}, y, rstd, eps);
  ArenaScope scope(*ctx.workspace);
  const Tensor w = float_copy(ctx, weight);
  if (ctx.planning()) return;
  cpu::rms_norm_forward(x, {}, w, x, y, rstd, eps);
}

void add_rms_norm_forward(const Context& ctx, const Tensor& x, const Tensor& residual,
                          const Tensor& weight, const Tensor& sum, const Tensor& y,
                          const Tensor& rstd, float eps) {
  constexpr const char* kOp = "add_rms_norm_forward";
  check_norm_rows(kOp, "x", x);
  check_same(kOp, "residual", residual, x);
  check_same(kOp, "sum", sum, x);
  check_same(kOp, "y", y, x);
  check_norm_weight(kOp, "weight", weight, x);
  check_norm_statistic(kOp, "rstd", rstd, x);
  if (!ctx.device.is_cpu())
    return cuda::rms_norm_forward(ctx, x, residual, weight, sum, y, rstd, eps);
  ArenaScope scope(*ctx.workspace);
  const Tensor w = float_copy(ctx, weight);
  if (ctx.planning()) return;
  cpu::rms_norm_forward(x, residual, w, sum, y, rstd, eps);
}

void rms_norm_backward(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& residual_gradient, const Tensor& dx,
                       const Tensor& weight_gradient) {
  constexpr const char* kOp = "rms_norm_backward";
  check_norm_rows(kOp, "x", x);
  check_same(kOp, "dy", dy, x);
  check_same(kOp, "dx", dx, x);
  if (residual_gradient.defined()) check_same(kOp, "residual_gradient", residual_gradient, x);
  check_norm_weight(kOp, "weight", weight, x);
  check_norm_statistic(kOp, "rstd", rstd, x);
  check_norm_gradient(kOp, "weight_gradient", weight_gradient, x);
  if (!ctx.device.is_cpu())
    return cuda::rms_norm_backward(ctx, dy, x, weight, rstd, residual_gradient, dx,
                                   weight_gradient);
  ArenaScope scope(*ctx.workspace);
  const Tensor w = float_copy(ctx, weight);
  Tensor partial;
  if (weight_gradient.defined()) {
    partial = allocate(*ctx.workspace, DType::f32, {cpu::row_blocks(cpu::num_rows(x)), x.size(-1)});
  }
  if (ctx.planning()) return;
  cpu::rms_norm_backward(dy, x, w, rstd, residual_gradient, dx, weight_gradient, partial);
}

}  // namespace forja
