// SPDX-License-Identifier: Apache-2.0
// ops/matmul.h on a GPU; arguments are checked there.
#pragma once

#include "forja/ops/matmul.h"

namespace forja::cuda {

void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
            MatmulOutput output, const Tensor& bias);
void matmul_gelu(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                 const Tensor& y, GeluKind kind, const Tensor& bias);
void matmul_swiglu(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& gate_up,
                   const Tensor& y, const Tensor& bias);

}  // namespace forja::cuda
