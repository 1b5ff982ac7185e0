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
          all_aligned16(c) && p.c_stride % kPack<T> == 0};
}

template <class T>
__device__ __forceinline__ float bias_at(const MatmulStore<T>& out, int column) {
  if (out.bias == nullptr || column >= out.columns) return 0.0f;
  return out.bias_bf16 ? to_float(static_cast<const BFloat16*>(out.bias)[column])
                       : static_cast<const float*>(out.bias)[column];
}

// Wherever it is, if it is in c at all.
template <class T>
__device__ __forceinline__ void store_one(const MatmulStore<T>& out, int row, int column, float x) {
  if (row >= out.rows || column >= out.columns) return;
  T* c = out.c + row * out.stride + column;
  *c = from_float<T>(out.accumulate ? to_float(*c) + x : x);
}

struct alignas(8) FloatPair {
  float x, y;
};

// At c, two neighbours of an aligned row that are in c.
__device__ __forceinline__ void store_pair(float* c, bool accumulate, float x, float y) {
  auto* to = reinterpret_cast<FloatPair*>(c);
  const FloatPair before = accumulate ? *to : FloatPair{0.0f, 0.0f};
  *to = FloatPair{before.x + x, before.y + y};
}
__device__ __forceinline__ void store_pair(BFloat16* c, bool accumulate, float x, float y) {
  auto* to = reinterpret_cast<uint32_t*>(c);
  const uint32_t before = accumulate ? *to : 0;
  *to = pack_bf16(low_float(before) + x, high_float(before) + y);
}

// The two rows of a lane in 16 rows that lie inside of c; `first` is c's element of the lane's
// upper row and the first column. Rounded to bf16, a row of a fragment is 4 bytes a lane, of four
// lanes: half a sector of L2. Transposed over four blocks, a lane has 16 bytes and four lanes two
// sectors.
__device__ __forceinline__ void store_inside(const MatmulStore<BFloat16>& out, BFloat16* first,
                                             const float (&bias)[4][2], const float (*c)[4]) {
  const int t = lane_index() % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    BFloat16* to = first + 8 * half * out.stride;
    uint32_t words[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float x = c[j][2 * half] + bias[j][0], y = c[j][2 * half + 1] + bias[j][1];
      if (out.accumulate)
        store_pair(to + 8 * j + 2 * t, true, x, y);
      else
        words[j] = pack_bf16(x, y);
    }
    if (out.accumulate) continue;
    transpose_quad(words);
    store16(to + 8 * t, {{words[0], words[1], words[2], words[3]}});
  }
}
// In fp32 four lanes have a sector.
__device__ __forceinline__ void store_inside(const MatmulStore<float>& out, float* first,
                                             const float (&bias)[4][2], const float (*c)[4]) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    float* to = first + 8 * j + 2 * (lane_index() % 4);
    store_pair(to, out.accumulate, c[j][0] + bias[j][0], c[j][1] + bias[j][1]);
    store_pair(to + 8 * out.stride, out.accumulate, c[j][2] + bias[j][0], c[j][3] + bias[j][1]);
  }
}

// The same wherever c ends; `row` is the lane's upper row.
template <class T>
__device__ __forceinline__ void store_outside(const MatmulStore<T>& out, int row, int column,
                                              const float (&bias)[4][2], const float (*c)[4]) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      store_one(out, row + 8 * (i / 2), column + 8 * j + 2 * (lane_index() % 4) + i % 2,
                c[j][i] + bias[j][i % 2]);
  }
}

// Of the lane's columns in four blocks from `column` on.
template <class T>
__device__ __forceinline__ void load_bias(const MatmulStore<T>& out, int column,
                                          float (&bias)[4][2]) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      bias[j][i] = bias_at(out, column + 8 * j + 2 * (lane_index() % 4) + i);
  }
}

// 16 rows of c from `row` on and 8 kBlocks columns from `column` on, a multiple of 8, by the warp
// that holds them as the fragments that mma.sync and wgmma leave: c[j] is block j, with the words
// of mma.cuh.
template <int kBlocks, class T>
__device__ __forceinline__ void store_fragments(const MatmulStore<T>& out, int row, int column,
                                                const float (&c)[kBlocks][4]) {
  static_assert(kBlocks % 4 == 0);
  const bool inside = out.aligned && row + 16 <= out.rows && column + 8 * kBlocks <= out.columns;
  row += lane_index() / 4;
  if (inside) {
    T* to = out.c + row * out.stride + column;
#pragma unroll
    for (int first = 0; first < kBlocks; first += 4) {
      float bias[4][2] = {};
      if (out.bias != nullptr) load_bias(out, column + 8 * first, bias);
      store_inside(out, to + 8 * first, bias, c + first);
    }
  } else {
#pragma unroll
    for (int first = 0; first < kBlocks; first += 4) {
      float bias[4][2];
      load_bias(out, column + 8 * first, bias);
      store_outside(out, row, column + 8 * first, bias, c + first);
    }
  }
}

}  // namespace forja::kernels
