// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/layer_norm.h"

#include "csrc/ops/cpu/layer_norm.h"
#include "csrc/ops/cuda/norm.h"
#include "csrc/ops/norm_arguments.h"

namespace forja {
namespace {

void forward(const char* op, const Context& ctx, const Tensor& x, const Tensor& residual,
             const Tensor& weight, const Tensor& bias, const Tensor& sum, const Tensor& y,
             const Tensor& mean, const Tensor& rstd, float eps) {
  check_norm_rows(op, "x", x);
  if (residual.defined()) check_same(op, "residual", residual, x);
  check_same(op, "sum", sum, x);
  check_same(op, "y", y, x);
  check_norm_weight(op, "weight", weight, x);
  if (bias.defined()) check_norm_weight(op, "bias", bias, x);
  check_norm_statistic(op, "mean", mean, x);
  check_norm_statistic(op, "rstd", rstd, x);
  if (!ctx.device.is_cpu()) {
    return cuda::layer_norm_forward(ctx, x, residual, weight, bias,
                                    residual.defined() ? sum : Tensor(), y, mean, rstd, eps);
  }
  ArenaScope scope(*ctx.workspace);
  const Tensor w = float_copy(ctx, weight), b = float_copy(ctx, bias);
  if (ctx.planning()) return;
  cpu::layer_norm_forward(x, residual, w, b, sum, y, mean, rstd, eps);
}

}  // namespace

void layer_norm_forward(const Context& ctx, const Tensor& x, const Tensor& weight,
                        const Tensor& bias, const Tensor& y, const Tensor& mean, const Tensor& rstd,
                        float eps) {
  forward("layer_norm_forward", ctx, x, {}, weight, bias, x, y, mean, rstd, eps);
}

void add_layer_norm_forward(const Context& ctx, const Tensor& x, const Tensor& residual,
                            const Tensor& weight, const Tensor& bias, const Tensor& sum,
                            const Tensor& y, const Tensor& mean, const Tensor& rstd, float eps) {
  FORJA_CHECK(residual.defined(), "add_layer_norm_forward: residual is undefined");
  forward("add_layer_norm_forward", ctx, x, residual, weight, bias, sum, y, mean, rstd, eps);
}

void layer_norm_backward(const Context& ctx, const Tensor& dy, const Tensor& x,
                         const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                         const Tensor& residual_gradient, const Tensor& dx,
                         const Tensor& weight_gradient, const Tensor& bias_gradient) {
  constexpr const char* kOp = "layer_norm_backward";
  check_norm_rows(kOp, "x", x);
  check_same(kOp, "dy", dy, x);
  check_same(kOp, "dx", dx, x);
  if (residual_gradient.defined()) check_same(kOp, "residual_gradient", residual_gradient, x);
  check_norm_weight(kOp, "weight", weight, x);
  check_norm_statistic(kOp, "mean", mean, x);
  check_norm_statistic(kOp, "rstd", rstd, x);
  check_norm_gradient(kOp, "weight_gradient", weight_gradient, x);
  check_norm_gradient(kOp, "bias_gradient", bias_gradient, x);
  if (!ctx.device.is_cpu()) {
    return cuda::layer_norm_backward(ctx, dy, x, weight, mean, rstd, residual_gradient, dx,
                                     weight_gradient, bias_gradient);
  }
  ArenaScope scope(*ctx.workspace);
  const Tensor w = float_copy(ctx, weight);
  Tensor partial;
  if (weight_gradient.defined() || bias_gradient.defined()) {
    partial =
        allocate(*ctx.workspace, DType::f32, {cpu::row_blocks(cpu::num_rows(x)), 2 * x.size(-1)});
  }
  if (ctx.planning()) return;
  cpu::layer_norm_backward(dy, x, w, mean, rstd, residual_gradient, dx, weight_gradient,
                           bias_gradient, partial);
}

}  // namespace forja
