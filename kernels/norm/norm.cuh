// SPDX-License-Identifier: Apache-2.0
// What both directions share: how a row lies over threads.
//
// A row is cut into groups of 16 bytes. Thread t of the row's T threads has the groups t, t + T,
// t + 2T, ..., at most kGroups of them, in registers, so that a row is read once. T is kWidth, a
// part of a warp, for short rows; kWidth 0 is a whole block; and rows too long for that (kGroups 0)
// are read again in each pass, from the caches.
#pragma once

#include "kernels/common/elements.cuh"
#include "kernels/common/warp.cuh"
#include "kernels/norm/norm.h"

namespace forja::kernels {

// Scratch of two sums over a block.
struct NormSums {
  SharedArray<float, 32> scratch[2];
};

// The sum over the threads of the row, in a fixed order. In a block, `index` (0 or 1) chooses
// scratch: uses that follow each other take turns.
template <int kWidth>
__device__ __forceinline__ float sum_of_row(float value, int index) {
  if constexpr (kWidth > 0) {
    return warp_reduce<Sum, kWidth>(value);
  } else {
    return block_reduce<Sum>(value, shared_storage<NormSums>().scratch[index]);
  }
}

template <int kWidth>
constexpr int64_t kNormSharedBytes = kWidth > 0 ? 0 : int64_t(sizeof(NormSums));

// The part of a row that a thread has.
template <class T, int kWidth>
struct RowPart {
  static constexpr int N = kPack<T>;
  int thread, threads;  // of the row
  int64_t columns;

  __device__ __forceinline__ explicit RowPart(int64_t columns_)
      : thread(kWidth > 0 ? thread_index() % (kWidth > 0 ? kWidth : 1) : thread_index()),
        threads(kWidth > 0 ? kWidth : int(blockDim.x)),
        columns(columns_) {}
  // The first column of group g, and how many elements it has.
  __device__ __forceinline__ int64_t first(int g) const {
    return (int64_t(g) * threads + thread) * N;
  }
  __device__ __forceinline__ int count(int g) const { return clamp_count(columns - first(g), N); }
};

}  // namespace forja::kernels
