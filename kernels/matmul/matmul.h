// SPDX-License-Identifier: Apache-2.0
// Matrix multiplication. Pointers are the device's; everything is asynchronous.
#pragma once

#include "forja/base/dtype.h"
#include "kernels/common/stream.h"
#include "kernels/matmul/evidence.h"

namespace forja::kernels {

// One operand, a [M, K] or b [N, K] (b is given by its columns, which are what a product reads).
struct MatmulOperand {
  const void* data;
  bool k_contiguous;  // neighbours along K are neighbours in memory; else those along M or N are
  int64_t stride;     // elements from one to the next along the other dim
};

// What is made of c beside it, from its values as stored (rounded to c_dtype).
enum class MatmulEpilogue {
  none,
  gelu_tanh,  // y = gelu(c), [M, N]
  gelu_erf,
  swiglu,  // y = silu(gate) * up, [M, N / 2]: gate is the first half of the columns of c, up the
           // rest
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
  MatmulEpilogue epilogue = MatmulEpilogue::none;  // others: without accumulate
  void* y = nullptr;                               // of the dtype of c
  int64_t y_stride = 0;

  int64_t y_columns() const { return epilogue == MatmulEpilogue::swiglu ? n / 2 : n; }
};

// With the kernel that fits the device and the operands. fp32 operands are multiplied in fp32. An
// epilogue is part of that kernel for what a forward pass has: operands contiguous along K, c of
// their dtype. Elsewhere it follows as a kernel of its own; y has the same bits either way.
void matmul(const MatmulProblem& problem, KernelStream stream);
// Which one that is, on the current device.
MatmulKernel matmul_kernel(const MatmulProblem& problem);

// For products made elsewhere: the problem without its epilogue, and the epilogue as a kernel of
// its own (none: nothing).
MatmulProblem without_epilogue(MatmulProblem problem);
void apply_epilogue(const MatmulProblem& problem, KernelStream stream);

}  // namespace forja::kernels
