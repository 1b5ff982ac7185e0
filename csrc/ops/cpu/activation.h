// SPDX-License-Identifier: Apache-2.0
// CPU versions of ops/activation.h; arguments are checked there.
#pragma once

#include "forja/ops/activation.h"

namespace forja::cpu {

void gelu_forward(const Tensor& x, const Tensor& y, GeluKind kind);
void gelu_backward(const Tensor& dy, const Tensor& x, const Tensor& dx, GeluKind kind);
void swiglu_forward(const Tensor& gate_up, const Tensor& y);
void swiglu_backward(const Tensor& dy, const Tensor& gate_up, const Tensor& dgate_up);

}  // namespace forja::cpu
