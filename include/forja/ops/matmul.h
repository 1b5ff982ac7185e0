// SPDX-License-Identifier: Apache-2.0
// Matrix multiplication (oneDNN on the CPU).
#pragma once

#include "forja/device/context.h"
#include "forja/ops/activation.h"
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

// The product and its activation, where a GPU's kernel can do both without reading c again. y is
// computed from c as stored, rounded to its dtype, and has the bits that gelu_forward(c) or
// swiglu_forward(gate_up) would give; but cuBLASLt's own GELU, which takes c before rounding.
//
// c = a b (+ bias), y = gelu(c): both [M, N], of the same dtype.
void matmul_gelu(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                 const Tensor& y, GeluKind kind, const Tensor& bias = {});
// gate_up = a b (+ bias) [M, 2F], gate first; y = silu(gate) * up [M, F], of the same dtype.
void matmul_swiglu(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& gate_up,
                   const Tensor& y, const Tensor& bias = {});

}  // namespace forja
