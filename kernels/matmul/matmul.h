// SPDX-License-Identifier: Apache-2.0
// Matrix multiplication. Pointers are the device's; everything is asynchronous.
#pragma once

#include "forja/base/dtype.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

// One operand, a [M, K] or b [N, K] (b is given by its columns, which are what a product reads).
struct MatmulOperand {
  const void* data;
  bool k_contiguous;  // neighbours along K are neighbours in memory; else those along M or N are
  int64_t stride;     // elements from one to the next along the other dim
};

// c = a b^T (+ bias) or c += a b^T in terms of MatmulOperand, in fp32. m, n > 0.
struct MatmulProblem {
  int64_t m, n, k;
  DType dtype;  // of a and b: fp32 or bf16
  MatmulOperand a, b;
  void* c;  // [M, N]
  DType c_dtype;
  int64_t c_stride;  // elements from row to row
  bool accumulate;
  const void* bias = nullptr;  // [N]
  DType bias_dtype = DType::f32;
};

// With the kernel that fits the device and the operands. fp32 operands are multiplied in fp32.
void matmul(const MatmulProblem& problem, KernelStream stream);

}  // namespace forja::kernels
