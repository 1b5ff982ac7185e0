// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/norm.h"

#include "csrc/ops/cuda/arguments.h"
#include "kernels/elementwise/column_sums.h"
#include "kernels/norm/norm.h"

namespace forja::cuda {
namespace {

using kernels::NormBackward;
using kernels::NormForward;
using kernels::NormKind;

int64_t num_rows(const Tensor& x) { return x.rank == 3 ? x.size(0) * x.size(1) : x.size(0); }

kernels::NormParameter parameter(const Context& ctx, const Tensor& t) {
  return {data(ctx, t), t.dtype == DType::f32};
}

void backward(const Context& ctx, NormBackward& a, const Tensor& x, const Tensor& weight_gradient,
              const Tensor& bias_gradient) {
  ArenaScope scope(*ctx.workspace);
  a.dtype = x.dtype;
  a.rows = num_rows(x);
  a.columns = x.size(-1);
  const int64_t partial_rows = kernels::norm_partial_rows(a.rows, a.columns);
  Tensor weight_partial, bias_partial;
  if (weight_gradient.defined())
    weight_partial = allocate(*ctx.workspace, DType::f32, {partial_rows, a.columns});
  if (bias_gradient.defined())
    bias_partial = allocate(*ctx.workspace, DType::f32, {partial_rows, a.columns});
  if (ctx.planning() || a.rows == 0 || a.columns == 0) return;
  a.weight_partial = typed<float>(ctx, weight_partial);
  a.bias_partial = typed<float>(ctx, bias_partial);
  const int64_t written = kernels::norm_backward(a, ctx.stream);
  if (a.weight_partial)
    kernels::add_column_sums(a.weight_partial, written, a.columns,
                             typed<float>(ctx, weight_gradient), ctx.stream);
  if (a.bias_partial)
    kernels::add_column_sums(a.bias_partial, written, a.columns, typed<float>(ctx, bias_gradient),
                             ctx.stream);
}

NormForward forward(const Context& ctx, NormKind kind, const Tensor& x, const Tensor& residual,
                    const Tensor& weight, const Tensor& bias, const Tensor& sum, const Tensor& y,
                    float eps) {
  NormForward a;
  a.kind = kind;
  a.dtype = x.dtype;
  a.rows = num_rows(x);
  a.columns = x.size(-1);
  a.eps = eps;
  a.x = rows(ctx, x);
  a.residual = rows(ctx, residual);
  a.sum = rows(ctx, sum);
  a.y = rows(ctx, y);
  a.weight = parameter(ctx, weight);
  a.bias = parameter(ctx, bias);
  return a;
}

NormBackward gradient(const Context& ctx, NormKind kind, const Tensor& dy, const Tensor& x,
                      const Tensor& weight, const Tensor& residual_gradient, const Tensor& dx) {
  NormBackward a;
  a.kind = kind;
  a.dy = rows(ctx, dy);
  a.x = rows(ctx, x);
  a.residual = rows(ctx, residual_gradient);
  a.dx = rows(ctx, dx);
  a.weight = parameter(ctx, weight);
  return a;
}

}  // namespace

void rms_norm_forward(const Context& ctx, const Tensor& x, const Tensor& residual,
                      const Tensor& weight, const Tensor& sum, const Tensor& y, const Tensor& rstd,
                      float eps) {
  if (ctx.planning() || x.num_elements() == 0) return;
  NormForward a = forward(ctx, NormKind::rms, x, residual, weight, {}, sum, y, eps);
  a.rstd = typed<float>(ctx, rstd);
  kernels::norm_forward(a, ctx.stream);
}

void rms_norm_backward(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& residual_gradient, const Tensor& dx,
                       const Tensor& weight_gradient) {
  NormBackward a = gradient(ctx, NormKind::rms, dy, x, weight, residual_gradient, dx);
  a.rstd = typed<float>(ctx, rstd);
  backward(ctx, a, x, weight_gradient, {});
}

void layer_norm_forward(const Context& ctx, const Tensor& x, const Tensor& residual,
                        const Tensor& weight, const Tensor& bias, const Tensor& sum,
                        const Tensor& y, const Tensor& mean, const Tensor& rstd, float eps) {
  if (ctx.planning() || x.num_elements() == 0) return;
  NormForward a = forward(ctx, NormKind::layer, x, residual, weight, bias, sum, y, eps);
  a.mean = typed<float>(ctx, mean);
  a.rstd = typed<float>(ctx, rstd);
  kernels::norm_forward(a, ctx.stream);
}

void layer_norm_backward(const Context& ctx, const Tensor& dy, const Tensor& x,
                         const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                         const Tensor& residual_gradient, const Tensor& dx,
                         const Tensor& weight_gradient, const Tensor& bias_gradient) {
  NormBackward a = gradient(ctx, NormKind::layer, dy, x, weight, residual_gradient, dx);
  a.mean = typed<float>(ctx, mean);
  a.rstd = typed<float>(ctx, rstd);
  backward(ctx, a, x, weight_gradient, bias_gradient);
}

}  // namespace forja::cuda
