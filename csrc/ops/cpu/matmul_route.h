// SPDX-License-Identifier: Apache-2.0
// Which implementation of a matrix multiplication is used; a pure function of machine, dtypes,
// shapes and strides, so that a run repeats bit by bit (with as many threads: oneDNN may cut the
// sums of a product by threads).
#pragma once

#include <cstdint>

#include "forja/tensor/tensor.h"

namespace forja::cpu {

enum class MatmulRoute {
  onednn,
  own,  // gemm.h: fp32 arithmetic
};

struct MatmulMachine {
  bool x86;
  // Products of bf16 pairs run faster than fp32 multiply-adds: AMX, or VDPBF16PS at full rate.
  bool fast_bf16;
};

MatmulMachine this_machine();
// For a [M, K] times b [K, N].
MatmulRoute matmul_route(const MatmulMachine& machine, const Tensor& a, const Tensor& b);

}  // namespace forja::cpu
