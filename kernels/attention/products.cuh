// SPDX-License-Identifier: Apache-2.0
// The two matrix products of attention, by a warp, on rows in shared memory: scores = a b^T, and
// sums += p b with p in registers. bf16 through tensor cores, fp32 in true fp32.
//
// Scores and p are blocks [16 i, 8 j] of four numbers a thread, as mma.cuh has them: with g = lane
// / 4, t = lane % 4, rows 16 i + g (numbers 0, 1) and 16 i + g + 8 (2, 3), columns 8 j + 2 t and
// the next. The columns of sums are those of column(j) and the next.
#pragma once

#include "kernels/attention/rows.cuh"
#include "kernels/common/mma.cuh"

namespace forja::kernels {

template <class T>
struct Products;

template <>
struct Products<BFloat16> {
  static __device__ __forceinline__ int column(int j) { return 8 * j + lane_index() % 4 * 2; }

  // 16 kRowBlocks rows of a left operand from `row`: in registers where kHeld (they must be there
  // when this is made), or read whenever they are used.
  template <bool kHeld, int kRowBlocks, int kDim, int kNumRows>
  struct Left {
    SharedRows<BFloat16, kDim, kNumRows>& rows;
    int row;
    uint32_t held[kHeld ? kDim / 16 : 1][kHeld ? kRowBlocks : 1][4];

    __device__ __forceinline__ Left(SharedRows<BFloat16, kDim, kNumRows>& rows_, int row_)
        : rows(rows_), row(row_ + lane_index() % 16) {
      if constexpr (kHeld) {
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k)
#pragma unroll
          for (int i = 0; i < kRowBlocks; ++i) read(k, i, held[k][i]);
      }
    }
    __device__ __forceinline__ void get(int k, int i, uint32_t (&fragment)[4]) const {
      if constexpr (kHeld) {
#pragma unroll
        for (int e = 0; e < 4; ++e) fragment[e] = held[k][i][e];
      } else {
        read(k, i, fragment);
      }
    }

   private:
    __device__ __forceinline__ void read(int k, int i, uint32_t (&fragment)[4]) const {
      load_matrices(fragment, rows.chunk(row + 16 * i, 2 * k + lane_index() / 16));
    }
  };

  // scores = a b^T for the rows of b.
  template <bool kHeld, int kRowBlocks, int kDim, int kNumRows, int kColumns>
  static __device__ __forceinline__ void multiply(const Left<kHeld, kRowBlocks, kDim, kNumRows>& a,
                                                  SharedRows<BFloat16, kDim, kColumns>& b,
                                                  float (&scores)[kRowBlocks][kColumns / 8][4]) {
    const int lane = lane_index(), b_row = lane / 16 * 8 + lane % 8, b_chunk = lane / 8 % 2;
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) scores[i][j][e] = 0.0f;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      uint32_t left[kRowBlocks][4];
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i) a.get(k, i, left[i]);
#pragma unroll
      for (int j = 0; j < kColumns / 8; j += 2) {
        uint32_t right[4];
        load_matrices(right, b.chunk(8 * j + b_row, 2 * k + b_chunk));
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i) {
          mma_m16n8k16(scores[i][j], left[i], {right[0], right[1]});
          mma_m16n8k16(scores[i][j + 1], left[i], {right[2], right[3]});
        }
      }
    }
  }

  // sums += p b, p rounded to bf16.
  template <int kRowBlocks, int kDim, int kColumns>
  static __device__ __forceinline__ void accumulate(const float (&p)[kRowBlocks][kColumns / 8][4],
                                                    SharedRows<BFloat16, kDim, kColumns>& b,
                                                    float (&sums)[kRowBlocks][kDim / 8][4]) {
    const int lane = lane_index();
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k) {
      uint32_t left[kRowBlocks][4];
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float(&from)[4] = p[i][2 * k + e / 2];
          left[i][e] = pack_bf16(from[e % 2 * 2], from[e % 2 * 2 + 1]);
        }
#pragma unroll
      for (int j = 0; j < kDim / 8; j += 2) {
        uint32_t right[4];
        load_matrices_transposed(right, b.chunk(16 * k + lane % 16, j + lane / 16));
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i) {
          mma_m16n8k16(sums[i][j], left[i], {right[0], right[1]});
          mma_m16n8k16(sums[i][j + 1], left[i], {right[2], right[3]});
        }
      }
    }
  }
};

template <>
struct Products<float> {
  // Four neighbouring columns a thread in every 16, so that they are read at once.
  static __device__ __forceinline__ int column(int j) {
    return j / 2 * 16 + lane_index() % 4 * 4 + j % 2 * 2;
  }

  template <bool kHeld, int kRowBlocks, int kDim, int kNumRows>
  struct Left {
    static_assert(!kHeld);
    SharedRows<float, kDim, kNumRows>& rows;
    int row;
    __device__ __forceinline__ Left(SharedRows<float, kDim, kNumRows>& rows_, int row_)
        : rows(rows_), row(row_ + lane_index() / 4) {}
  };

  template <bool kHeld, int kRowBlocks, int kDim, int kNumRows, int kColumns>
  static __device__ __forceinline__ void multiply(const Left<kHeld, kRowBlocks, kDim, kNumRows>& a,
                                                  SharedRows<float, kDim, kColumns>& b,
                                                  float (&scores)[kRowBlocks][kColumns / 8][4]) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) scores[i][j][e] = 0.0f;
#pragma unroll 2
    for (int chunk = 0; chunk < kDim / 4; ++chunk) {
      float left[kRowBlocks][2][4];
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h)
          load_pack(a.rows.chunk(a.row + 16 * i + 8 * h, chunk), left[i][h]);
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float right[4];
          load_pack(b.chunk(8 * j + lane_index() % 4 * 2 + c, chunk), right);
#pragma unroll
          for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
            for (int h = 0; h < 2; ++h)
#pragma unroll
              for (int e = 0; e < 4; ++e) scores[i][j][2 * h + c] += left[i][h][e] * right[e];
        }
    }
  }

  template <int kRowBlocks, int kDim, int kColumns>
  static __device__ __forceinline__ void accumulate(const float (&p)[kRowBlocks][kColumns / 8][4],
                                                    SharedRows<float, kDim, kColumns>& b,
                                                    float (&sums)[kRowBlocks][kDim / 8][4]) {
    const int lane = lane_index();
#pragma unroll
    for (int column = 0; column < kColumns; ++column) {
      // p of this column is with one lane of the four that share a row.
      float left[kRowBlocks][2];
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h)
          left[i][h] =
              shuffle_from(p[i][column / 8][2 * h + column % 2], lane / 4 * 4 + column % 8 / 2);
#pragma unroll
      for (int j = 0; j < kDim / 8; j += 2) {
        float right[4];
        load_pack(b.chunk(column, j / 2 * 4 + lane % 4), right);
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
          for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[i][j + e / 2][2 * h + e % 2] += left[i][h] * right[e];
      }
    }
  }
};

// Puts `value` where a row, of 16 queries from `query`, does not see a column, of keys from `key`.
template <int kBlocks>
__device__ __forceinline__ void mask_keys(float (&scores)[kBlocks][4], const Visibility& visible,
                                          int query, int key, float value) {
  const int column = key + lane_index() % 4 * 2;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = query + 8 * h + lane_index() / 4;
    const int first = visible.first_key(row), end = visible.end_key(row);
#pragma unroll
    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int at = column + 8 * j + c;
        if (at < first || at >= end) scores[j][2 * h + c] = value;
      }
  }
}
template <int kRowBlocks, int kBlocks>
__device__ __forceinline__ void mask_keys(float (&scores)[kRowBlocks][kBlocks][4],
                                          const Visibility& visible, int query, int key,
                                          float value) {
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i) mask_keys(scores[i], visible, query + 16 * i, key, value);
}

// Transposed: zeros where a query, of those from `query` in columns, does not see a key, of those
// from `key` in rows.
template <int kRowBlocks, int kBlocks>
__device__ __forceinline__ void mask_queries(float (&p)[kRowBlocks][kBlocks][4],
                                             const Visibility& visible, int key, int query) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int column = query + 8 * j + lane_index() % 4 * 2 + c;
      const int first = visible.first_key(column), end = visible.end_key(column);
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int row = key + 16 * i + 8 * h + lane_index() / 4;
          if (row < first || row >= end) p[i][j][2 * h + c] = 0.0f;
        }
    }
}

}  // namespace forja::kernels
