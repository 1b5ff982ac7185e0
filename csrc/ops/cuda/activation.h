// SPDX-License-Identifier: Apache-2.0
// ops/activation.h on a GPU; arguments are checked there.
#pragma once

#include "forja/ops/activation.h"

namespace forja::cuda {

void gelu_forward(const Context& ctx, const Tensor& x, const Tensor& y, GeluKind kind);
void gelu_backward(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& dx,
                   GeluKind kind);
void swiglu_forward(const Context& ctx, const Tensor& gate_up, const Tensor& y);
void swiglu_backward(const Context& ctx, const Tensor& dy, const Tensor& gate_up,
                     const Tensor& dgate_up);

}  // namespace forja::cuda
