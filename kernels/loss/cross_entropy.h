// SPDX-License-Identifier: Apache-2.0
// The passes over logits of ops/cross_entropy.h, and the small ones of ops/log_probability.h.
// Pointers are the device's; everything is asynchronous.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

// [rows, columns] of the vocabulary's columns from first_column; strides in elements.
struct Logits {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0, columns = 0, stride = 0;
  const int32_t* targets = nullptr;  // [rows], in the whole vocabulary; negative: none
  int64_t first_column = 0;
};

// All [rows].
void softmax_statistics(const Logits& logits, float* maximum, float* sum_exp, float* target_logit,
                        KernelStream stream);
// out [rows, columns] may be the logits.
void softmax_gradient(const Logits& logits, const float* lse, const float* coefficient, void* out,
                      DType out_dtype, int64_t out_stride, KernelStream stream);

// All [count]; lse may be maximum.
void log_probability(const float* maximum, const float* sum_exp, const float* target_logit,
                     const int32_t* targets, float* lse, float* log_probability, int64_t count,
                     KernelStream stream);
void rescale_sum_exp(const float* maximum, const float* largest, float* sum_exp, int64_t count,
                     KernelStream stream);

}  // namespace forja::kernels
