// SPDX-License-Identifier: Apache-2.0
// How products leave the registers: with bias, added to c or not, as fp32 or bf16.
#pragma once

#include "kernels/common/vector.cuh"
#include "kernels/common/warp.cuh"
#include "kernels/matmul/matmul.h"

namespace forja::kernels {

template <class T>
struct MatmulStore {
  T* c;  // [rows, columns]
  int64_t stride;
  int rows, columns;
  const void* bias;  // or nullptr
  bool bias_bf16, accumulate;
  bool aligned;  // rows of c begin at multiples of 16 bytes
};

template <class T>
MatmulStore<T> make_store(const MatmulProblem& p) {
  T* c = static_cast<T*>(p.c);
  return {c,
          p.c_stride,
          int(p.m),
          int(p.n),
          p.bias,
          p.bias_dtype == DType::bf16,
          p.accumulate,
          all_aligned16(c) && (p.m == 1 || p.c_stride % kPack<T> == 0)};
}

template <class T>
__device__ __forceinline__ float bias_at(const MatmulStore<T>& out, int column) {
  if (out.bias == nullptr || column >= out.columns) return 0.0f;
  return out.bias_bf16 ? to_float(static_cast<const BFloat16*>(out.bias)[column])
                       : static_cast<const float*>(out.bias)[column];
}

template <class T>
__device__ __forceinline__ void store_one(const MatmulStore<T>& out, int row, int column, float x) {
  if (row >= out.rows || column >= out.columns) return;
  T* c = out.c + row * out.stride + column;
  *c = from_float<T>(out.accumulate ? to_float(*c) + x : x);
}

struct alignas(8) FloatPair {
  float x, y;
};

// Columns `column`, an even one, and the next.
__device__ __forceinline__ void store_pair(const MatmulStore<float>& out, int row, int column,
                                           float x, float y) {
  if (!out.aligned || column + 2 > out.columns) {
    store_one(out, row, column, x);
    store_one(out, row, column + 1, y);
  } else if (row < out.rows) {
    auto* c = reinterpret_cast<FloatPair*>(out.c + row * out.stride + column);
    const FloatPair before = out.accumulate ? *c : FloatPair{0.0f, 0.0f};
    *c = FloatPair{before.x + x, before.y + y};
  }
}
__device__ __forceinline__ void store_pair(const MatmulStore<BFloat16>& out, int row, int column,
                                           float x, float y) {
  if (!out.aligned || column + 2 > out.columns) {
    store_one(out, row, column, x);
    store_one(out, row, column + 1, y);
  } else if (row < out.rows) {
    auto* c = reinterpret_cast<uint32_t*>(out.c + row * out.stride + column);
    const uint32_t before = out.accumulate ? *c : 0;
    *c = pack_bf16(low_float(before) + x, high_float(before) + y);
  }
}

// Four lanes t = 0 to 3, a multiple of 4 the first, transpose a 4 x 4 matrix of words: lane t gave
// column t and gets row t.
__device__ __forceinline__ void transpose_quad(uint32_t (&w)[4]) {
  const int lane = lane_index();
  const bool odd = lane & 1, high = lane & 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t got = shuffle_xor(odd ? w[i] : w[i + 1], 1);
    w[i] = odd ? got : w[i];
    w[i + 1] = odd ? w[i + 1] : got;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t got = shuffle_xor(high ? w[i] : w[i + 2], 2);
    w[i] = high ? got : w[i];
    w[i + 2] = high ? w[i + 2] : got;
  }
}

// 32 columns of 16 rows, rounded to bf16. A row of a fragment is 4 bytes a lane, of four lanes:
// half a sector of L2. Transposed over four blocks, a lane has 16 bytes and four lanes two sectors.
__device__ __forceinline__ void store_bf16(const MatmulStore<BFloat16>& out, int row, int column,
                                           const float (&bias)[4][2], const float (*c)[4]) {
  const int lane = lane_index(), t = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t words[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      words[j] = pack_bf16(c[j][2 * half] + bias[j][0], c[j][2 * half + 1] + bias[j][1]);
    transpose_quad(words);
    const int r = row + lane / 4 + 8 * half, first = column + 8 * t;
    if (r < out.rows && first + 8 <= out.columns) {
      store16(out.c + r * out.stride + first, {{words[0], words[1], words[2], words[3]}});
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        store_one(out, r, first + 2 * i, low_float(words[i]));
        store_one(out, r, first + 2 * i + 1, high_float(words[i]));
      }
    }
  }
}
__device__ __forceinline__ void store_bf16(const MatmulStore<float>&, int, int,
                                           const float (&)[4][2], const float (*)[4]) {}

// 16 rows of c from `row` on and 8 kBlocks columns from `column` on, a multiple of 8, by the warp
// that holds them as the fragments that mma.sync and wgmma leave: c[j] is block j, with the words
// of mma.cuh.
template <int kBlocks, class T>
__device__ __forceinline__ void store_fragments(const MatmulStore<T>& out, int row, int column,
                                                const float (&c)[kBlocks][4]) {
  static_assert(kBlocks % 4 == 0);
  const int lane = lane_index(), g = lane / 4, t = lane % 4;
  const bool packed = sizeof(T) == 2 && out.aligned && !out.accumulate;
#pragma unroll
  for (int first = 0; first < kBlocks; first += 4) {
    float bias[4][2];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      bias[j][0] = bias_at(out, column + 8 * (first + j) + 2 * t);
      bias[j][1] = bias_at(out, column + 8 * (first + j) + 2 * t + 1);
    }
    if (packed) {
      store_bf16(out, row, column + 8 * first, bias, c + first);
      continue;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int at = column + 8 * (first + j) + 2 * t;
      const float(&v)[4] = c[first + j];
      store_pair(out, row + g, at, v[0] + bias[j][0], v[1] + bias[j][1]);
      store_pair(out, row + g + 8, at, v[2] + bias[j][0], v[3] + bias[j][1]);
    }
  }
}

}  // namespace forja::kernels
