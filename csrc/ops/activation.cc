// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/activation.h"

#include "csrc/ops/cpu/activation.h"
#include "csrc/ops/cuda/activation.h"
#include "csrc/ops/dispatch.h"

namespace forja {
namespace {

void check_rows(const char* op, const char* name, const Tensor& t) {
  check_float(op, name, t);
  check_rank(op, name, t, 2);
  check_last_dim_contiguous(op, name, t);
}

// gate_up [N, 2F] beside [N, F].
void check_gate_up(const char* op, const char* name, const Tensor& gate_up, const Tensor& like) {
  check_rows(op, name, gate_up);
  check_shape(op, name, gate_up, {like.size(0), 2 * like.size(1)});
  check_dtype(op, name, gate_up, like.dtype);
}

}  // namespace

void gelu_forward(const Context& ctx, const Tensor& x, const Tensor& y, GeluKind kind) {
  check_rows("gelu_forward", "x", x);
  check_same("gelu_forward", "y", y, x);
  if (!ctx.device.is_cpu()) return cuda::gelu_forward(ctx, x, y, kind);
  if (ctx.planning()) return;
  cpu::gelu_forward(x, y, kind);
}

void gelu_backward(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& dx,
                   GeluKind kind) {
  check_rows("gelu_backward", "x", x);
  check_same("gelu_backward", "dy", dy, x);
  check_same("gelu_backward", "dx", dx, x);
  if (!ctx.device.is_cpu()) return cuda::gelu_backward(ctx, dy, x, dx, kind);
  if (ctx.planning()) return;
  cpu::gelu_backward(dy, x, dx, kind);
}

void swiglu_forward(const Context& ctx, const Tensor& gate_up, const Tensor& y) {
  check_rows("swiglu_forward", "y", y);
  check_gate_up("swiglu_forward", "gate_up", gate_up, y);
  if (!ctx.device.is_cpu()) return cuda::swiglu_forward(ctx, gate_up, y);
  if (ctx.planning()) return;
  cpu::swiglu_forward(gate_up, y);
}

void swiglu_backward(const Context& ctx, const Tensor& dy, const Tensor& gate_up,
                     const Tensor& dgate_up) {
  check_rows("swiglu_backward", "dy", dy);
  check_gate_up("swiglu_backward", "gate_up", gate_up, dy);
  check_gate_up("swiglu_backward", "dgate_up", dgate_up, dy);
  if (!ctx.device.is_cpu()) return cuda::swiglu_backward(ctx, dy, gate_up, dgate_up);
  if (ctx.planning()) return;
  cpu::swiglu_backward(dy, gate_up, dgate_up);
}

}  // namespace forja
