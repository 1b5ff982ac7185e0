// SPDX-License-Identifier: Apache-2.0
// RMS and layer normalisation of rows, with the residual connection in front. Pointers are the
// device's; everything is asynchronous.
#pragma once

#include <algorithm>
#include <cstdint>

#include "forja/base/dtype.h"
#include "kernels/common/rows.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

enum class NormKind { rms, layer };

// A weight or bias [columns], fp32 or of the dtype of the rows; data may be nullptr.
struct NormParameter {
  const void* data = nullptr;
  bool is_fp32 = true;
};

struct NormForward {
  NormKind kind = NormKind::rms;
  DType dtype = DType::f32;
  int64_t rows = 0, columns = 0;
  float eps = 0.0f;
  Rows x, residual;  // residual.data nullptr: none
  Rows sum, y;       // sum = x + residual is written with a residual only; y may be x
  NormParameter weight, bias;
  float *mean = nullptr, *rstd = nullptr;  // [rows]; mean of layer norms only
};

struct NormBackward {
  NormKind kind = NormKind::rms;
  DType dtype = DType::f32;
  int64_t rows = 0, columns = 0;
  Rows dy, x, residual, dx;  // residual: the gradient that is added; data nullptr: none
  NormParameter weight;
  const float *mean = nullptr, *rstd = nullptr;
  // Sums over some of the rows each, of the gradients of weight and bias: [norm_partial_rows,
  // columns] each; nullptr: not wanted. bias_partial only of layer norms.
  float *weight_partial = nullptr, *bias_partial = nullptr;
};

// The most rows of partial sums that norm_backward writes, on any device.
inline int64_t norm_partial_rows(int64_t rows, int64_t columns) {
  return std::clamp<int64_t>(rows, 1, columns <= 256 ? 1024 : 320);
}

void norm_forward(const NormForward& arguments, KernelStream stream);
// How many rows of partial sums were written.
int64_t norm_backward(const NormBackward& arguments, KernelStream stream);

}  // namespace forja::kernels
