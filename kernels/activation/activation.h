// SPDX-License-Identifier: Apache-2.0
// The activations of ops/activation.h. Rows are of one dtype, fp32 or bf16. Pointers are the
// device's; everything is asynchronous.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"
#include "kernels/common/rows.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

enum class Gelu { tanh, erf };

// [rows, columns]; the first output may be an input.
void gelu_forward(Gelu kind, const Rows& x, const Rows& y, DType dtype, int64_t rows,
                  int64_t columns, KernelStream stream);
void gelu_backward(Gelu kind, const Rows& dy, const Rows& x, const Rows& dx, DType dtype,
                   int64_t rows, int64_t columns, KernelStream stream);
// gate_up and dgate_up [rows, 2 columns]: gate first.
void swiglu_forward(const Rows& gate_up, const Rows& y, DType dtype, int64_t rows, int64_t columns,
                    KernelStream stream);
void swiglu_backward(const Rows& dy, const Rows& gate_up, const Rows& dgate_up, DType dtype,
                     int64_t rows, int64_t columns, KernelStream stream);

}  // namespace forja::kernels
