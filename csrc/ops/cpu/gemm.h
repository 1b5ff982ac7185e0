// SPDX-License-Identifier: Apache-2.0
// Matrix multiplication of Forja's own, in fp32 arithmetic from fp32 or bf16 operands.
#pragma once

#include "forja/ops/matmul.h"

namespace forja::cpu {

// As matmul() of ops/matmul.h (arguments are checked there; no size is 0), scratch from
// ctx.workspace. The result is bitwise the same for any number of threads.
void gemm(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
          MatmulOutput output, const Tensor& bias);

}  // namespace forja::cpu
