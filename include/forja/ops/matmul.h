// SPDX-License-Identifier: Apache-2.0
// Matrix multiplication (oneDNN on the CPU).
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

enum class MatmulOutput {
  overwrite,   // c = a b
  accumulate,  // c += a b
};

// c = a b (+ bias), or c += a b, computed in fp32.
//   a [M, K], b [K, N]: fp32 or bf16, both the same; row-major or transposed views (one stride of 1
//   is enough), so that
//     with x [T, in] and a weight w [out, in]: forward  y = matmul(x, w.transposed()),
//     input gradient dx = matmul(dy, w), weight gradient dw = matmul(dy.transposed(), x).
//   c [M, N]: fp32 or the dtype of a; rows may have a stride above N.
//   bias [N] or undefined, fp32 or the dtype of a; only with overwrite.
// Scratch of the library comes from ctx.workspace. Throws on shapes, strides or dtypes that do not
// fit.
void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
            MatmulOutput output = MatmulOutput::overwrite, const Tensor& bias = {});

}  // namespace forja
