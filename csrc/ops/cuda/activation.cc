// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/activation.h"

#include "csrc/ops/cuda/arguments.h"
#include "kernels/activation/activation.h"

namespace forja::cuda {
namespace {

kernels::Gelu gelu_of(GeluKind kind) {
  return kind == GeluKind::tanh ? kernels::Gelu::tanh : kernels::Gelu::erf;
}

}  // namespace

void gelu_forward(const Context& ctx, const Tensor& x, const Tensor& y, GeluKind kind) {
  if (ctx.planning()) return;
  kernels::gelu_forward(gelu_of(kind), rows(ctx, x), rows(ctx, y), x.dtype, x.size(0), x.size(1),
                        ctx.stream);
}

void gelu_backward(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& dx,
                   GeluKind kind) {
  if (ctx.planning()) return;
  kernels::gelu_backward(gelu_of(kind), rows(ctx, dy), rows(ctx, x), rows(ctx, dx), x.dtype,
                         x.size(0), x.size(1), ctx.stream);
}

void swiglu_forward(const Context& ctx, const Tensor& gate_up, const Tensor& y) {
  if (ctx.planning()) return;
  kernels::swiglu_forward(rows(ctx, gate_up), rows(ctx, y), y.dtype, y.size(0), y.size(1),
                          ctx.stream);
}

void swiglu_backward(const Context& ctx, const Tensor& dy, const Tensor& gate_up,
                     const Tensor& dgate_up) {
  if (ctx.planning()) return;
  kernels::swiglu_backward(rows(ctx, dy), rows(ctx, gate_up), rows(ctx, dgate_up), dy.dtype,
                           dy.size(0), dy.size(1), ctx.stream);
}

}  // namespace forja::cuda
