// SPDX-License-Identifier: Apache-2.0
// Activations of the MLP: GELU (tanh form and exact) and SwiGLU. Computed in fp32; tensors fp32 or
// bf16; rows may be strided, the last dim is contiguous.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

enum class GeluKind {
  tanh,  // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): gelu_new, gelu_pytorch_tanh
  erf,   // x Phi(x)
};

// x, y [N, F]; y may be x.
void gelu_forward(const Context& ctx, const Tensor& x, const Tensor& y, GeluKind kind);
// dx = dy gelu'(x); dx may be dy.
void gelu_backward(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& dx,
                   GeluKind kind);

// y = silu(gate) * up. gate_up [N, 2F]: gate in the first F columns, up in the others. y [N, F].
void swiglu_forward(const Context& ctx, const Tensor& gate_up, const Tensor& y);
// dgate_up [N, 2F] from dy [N, F]; dgate_up may be gate_up.
void swiglu_backward(const Context& ctx, const Tensor& dy, const Tensor& gate_up,
                     const Tensor& dgate_up);

}  // namespace forja
