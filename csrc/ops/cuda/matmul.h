// SPDX-License-Identifier: Apache-2.0
// ops/matmul.h on a GPU; arguments are checked there.
#pragma once

#include "csrc/ops/cuda/matmul_route.h"
#include "forja/ops/matmul.h"

namespace forja::cuda {

void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
            MatmulOutput output, const Tensor& bias);

// The same by a route of one's own choice.
void matmul_by(MatmulRoute route, const Context& ctx, const Tensor& a, const Tensor& b,
               const Tensor& c, MatmulOutput output, const Tensor& bias);

}  // namespace forja::cuda
