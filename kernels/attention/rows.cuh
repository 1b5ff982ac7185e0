// SPDX-License-Identifier: Apache-2.0
// Rows of one head in global and in shared memory, and what a query sees.
#pragma once

#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/common/async_copy.cuh"
#include "kernels/common/pair.cuh"
#include "kernels/common/warp.cuh"

namespace forja::kernels {

// Blocks a multiprocessor that registers are to allow: without a number, ptxas spills to fit more.
constexpr int kMinBlocks = 2;

// Query i of the sequence sees its keys [first_key(i), end_key(i)); key j is seen by its queries
// [first_query(j), end_query(j)). Both bounds rise with i and j.
struct Visibility {
  int q_length, k_length, offset, window;
  bool causal;

  __device__ __forceinline__ Visibility(const AttentionTile& t, const AttentionProblem& p)
      : q_length(t.q_length),
        k_length(t.k_length),
        offset(t.k_length - t.q_length),
        window(p.window),
        causal(p.causal) {}
  __device__ __forceinline__ int first_key(int i) const {
    return window > 0 ? clamp(i + offset + 1 - window, k_length) : 0;
  }
  __device__ __forceinline__ int end_key(int i) const {
    return causal ? clamp(i + offset + 1, k_length) : k_length;
  }
  __device__ __forceinline__ int first_query(int j) const {
    return causal ? clamp(j - offset, q_length) : 0;
  }
  __device__ __forceinline__ int end_query(int j) const {
    return window > 0 ? clamp(j - offset + window, q_length) : q_length;
  }

 private:
  static __device__ __forceinline__ int clamp(int x, int limit) {
    return std::max(0, std::min(x, limit));
  }
};

// Rows of one head of one sequence.
template <class T>
struct HeadRows {
  T* data;
  int64_t stride;
  int dim;
  bool packed;  // may be moved by 16 bytes

  __device__ __forceinline__ HeadRows(const AttentionRows& rows, int first_row, int head,
                                      int head_size, bool packed_)
      : data(static_cast<T*>(rows.data) + first_row * rows.row_stride + head * rows.head_stride),
        stride(rows.row_stride),
        dim(head_size),
        packed(packed_) {}
};

// Whether HeadRows of each can be packed.
template <class T, class... Rows>
bool all_packed(int head_size, const Rows&... rows) {
  const auto packed = [](const AttentionRows& r) {
    return all_aligned16(r.data) && r.row_stride % kPack<T> == 0 && r.head_stride % kPack<T> == 0;
  };
  return head_size % kPack<T> == 0 && (packed(rows) && ...);
}

// kNumRows rows of kDim elements in chunks of 16 bytes. The same chunk of eight neighbouring rows
// lies in eight different groups of four banks: chunks are exchanged within a row by the row's
// number, or rows are padded to an odd number of chunks where their number is not a multiple of 8.
template <class T, int kDim, int kNumRows>
struct SharedRows {
  static constexpr int kChunks = kDim / kPack<T>;
  static constexpr bool kSwizzled = kChunks % 8 == 0;
  static constexpr int kStride = (kSwizzled ? kChunks : kChunks + 1) * kPack<T>;
  static_assert(kDim % 16 == 0);

  alignas(128) SharedArray<T, kNumRows * kStride> elements;

  __device__ __forceinline__ T* chunk(int row, int index) {
    // Apart from the rest, so that all groups of eight chunks share one offset.
    const int at = kSwizzled ? (index & ~7) + ((index ^ row) & 7) : index;
    return elements.at(row * kStride + at * kPack<T>, kPack<T>);
  }
};

// Begins to copy rows [first, first + kNumRows) by the kThreads threads of the block; zeros behind
// row `end` and behind the head size. Done after wait_copies and a barrier.
template <int kThreads, class T, int kDim, int kNumRows>
__device__ __forceinline__ void load_rows(SharedRows<T, kDim, kNumRows>& to,
                                          const HeadRows<T>& from, int first, int end) {
  constexpr int kChunks = kDim / kPack<T>, kTotal = kNumRows * kChunks;
  if (from.packed) {
    // Not unrolled further: addresses of all steps would take registers from the caller's sums.
#pragma unroll 2
    for (int i = thread_index(); i < kTotal; i += kThreads) {
      const int row = i / kChunks, chunk = i % kChunks;
      const bool valid = first + row < end && chunk * kPack<T> < from.dim;
      copy_async16(to.chunk(row, chunk), from.data + (first + row) * from.stride + chunk * kPack<T>,
                   valid);
    }
    return;
  }
#pragma unroll 1
  for (int i = thread_index(); i < kTotal; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const T* x = from.data + (first + row) * from.stride;
    float values[kPack<T>];
#pragma unroll
    for (int e = 0; e < kPack<T>; ++e) {
      const int column = chunk * kPack<T> + e;
      values[e] = first + row < end && column < from.dim ? to_float(x[column]) : 0.0f;
    }
    store_pack(to.chunk(row, chunk), values);
  }
}

// Writes the sums of a warp (Products<T>), each row times its factor, to rows [first, end) by way
// of the warp's rows of `staging` from `staging_row`, which no other warp uses.
template <class Products, int kRowBlocks, class T, int kDim, int kNumRows>
__device__ __forceinline__ void store_sums(const float (&sums)[kRowBlocks][kDim / 8][4],
                                           const float (&factor)[kRowBlocks][2],
                                           SharedRows<T, kDim, kNumRows>& staging, int staging_row,
                                           const HeadRows<T>& to, int first, int end) {
  constexpr int kChunks = kDim / kPack<T>;
  const int group = lane_index() / 4;
  sync_warp();
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      const int column = Products::column(j);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        T* chunk = staging.chunk(staging_row + 16 * i + 8 * h + group, column / kPack<T>);
        store_pair(chunk + column % kPack<T>, sums[i][j][2 * h] * factor[i][h],
                   sums[i][j][2 * h + 1] * factor[i][h]);
      }
    }
  }
  sync_warp();
#pragma unroll 4
  for (int i = lane_index(); i < 16 * kRowBlocks * kChunks; i += kWarp) {
    const int row = i / kChunks, chunk = i % kChunks;
    if (first + row >= end) break;
    const T* x = staging.chunk(staging_row + row, chunk);
    T* y = to.data + (first + row) * to.stride + chunk * kPack<T>;
    if (to.packed) {
      if (chunk * kPack<T> < to.dim) store16(y, load16(x));
    } else {
#pragma unroll 1
      for (int e = 0; e < kPack<T> && chunk * kPack<T> + e < to.dim; ++e) y[e] = x[e];
    }
  }
}

}  // namespace forja::kernels
