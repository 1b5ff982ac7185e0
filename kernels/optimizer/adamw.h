// SPDX-License-Identifier: Apache-2.0
// AdamW (ops/adamw.h) and the sum of squares of its gradients, over all parameters at once.
// Pointers are the device's; everything is asynchronous.
#pragma once

#include <algorithm>
#include <cstdint>

#include "forja/base/element_map.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

struct AdamWSettings {
  float lr, beta1, beta2, eps, weight_decay, clip_norm;
  Rounding rounding;  // of bf16 moments
};

// What the step's parameters share, on the device.
struct AdamWStep {
  const double* sum_of_squares;  // [1]
  const double* largest_sum;     // [1]
  int64_t* num_updates;          // [1]
};

// A range of ops/adamw.h, as it lies in the list's table.
struct AdamWRange {
  const float* gradient;
  float* weight;
  void *first_moment, *second_moment;  // of the list's moment_dtype
  BFloat16* compute_weight;            // or nullptr
  int64_t count;                       // of elements, at least 1
  int64_t first_chunk;                 // chunks of the ranges before it
  ElementMap elements;
  uint64_t key;
  float lr_scale;
  bool decays, counts;
  bool aligned;  // all tensors, to four elements
};

// Work is divided in chunks of so many elements of one range.
inline constexpr int kAdamWChunk = 4096;
inline int64_t adamw_chunks(int64_t count) { return (count + kAdamWChunk - 1) / kAdamWChunk; }

struct AdamWList {
  const AdamWRange* table;  // [num_ranges], on the device
  int num_ranges;
  int64_t num_chunks;
  DType moment_dtype;
};

// sum[0] = the sum, in fp64. partial [sum_of_squares_blocks(list.num_chunks)] is scratch: the order
// of additions depends on the list's sizes alone.
inline int64_t sum_of_squares_blocks(int64_t num_chunks) {
  return std::min<int64_t>(num_chunks, 1024);
}
void sum_of_squares(const AdamWList& list, double* sum, double* partial, KernelStream stream);

void begin_adamw_step(const AdamWStep& step, KernelStream stream);
void adamw_step(const AdamWStep& step, const AdamWSettings& settings, const AdamWList& list,
                KernelStream stream);

}  // namespace forja::kernels
