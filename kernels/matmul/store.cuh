// SPDX-License-Identifier: Apache-2.0
// How products leave the registers: with bias, added to c or not, as fp32 or bf16, and with the
// activation of what is stored (MatmulEpilogue), which so reads nothing.
//
// With swiglu a tile of c is half gate and half up: the columns from some place of each half of c
// on, a multiple of 32 of both, so that a thread holds both factors of its part of y.
#pragma once

#include "kernels/activation/activation.cuh"
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
  T* y;  // [rows, width] of the epilogue
  int64_t y_stride;
  int width;     // of y: `columns`, or half of them
  bool aligned;  // rows of c, of its halves and of y begin at multiples of 16 bytes
};

template <class T>
MatmulStore<T> make_store(const MatmulProblem& p) {
  T *c = static_cast<T*>(p.c), *y = static_cast<T*>(p.y);
  const bool aligned = all_aligned16(c, y) && p.c_stride % kPack<T> == 0 &&
                       p.y_stride % kPack<T> == 0 &&
                       (p.epilogue != MatmulEpilogue::swiglu || p.y_columns() % kPack<T> == 0);
  return {c,
          p.c_stride,
          int(p.m),
          int(p.n),
          p.bias,
          p.bias_dtype == DType::bf16,
          p.accumulate,
          y,
          p.y_stride,
          int(p.y_columns()),
          aligned};
}

// Columns of y in a tile of c.
template <int kTile, MatmulEpilogue kEpilogue>
constexpr int kColumnsOf = kEpilogue == MatmulEpilogue::swiglu ? kTile / 2 : kTile;

template <class T>
__device__ __forceinline__ float bias_at(const MatmulStore<T>& out, int column) {
  if (out.bias == nullptr || column >= out.columns) return 0.0f;
  return out.bias_bf16 ? to_float(static_cast<const BFloat16*>(out.bias)[column])
                       : static_cast<const float*>(out.bias)[column];
}

// gelu of either form.
template <MatmulEpilogue kEpilogue>
__device__ __forceinline__ float activate(float x) {
  static_assert(kEpilogue == MatmulEpilogue::gelu_tanh || kEpilogue == MatmulEpilogue::gelu_erf);
  return kEpilogue == MatmulEpilogue::gelu_erf ? gelu_erf(x) : gelu_tanh(x);
}

// Wherever it is, if it is in c at all.
template <MatmulEpilogue kEpilogue = MatmulEpilogue::none, class T>
__device__ __forceinline__ void store_one(const MatmulStore<T>& out, int row, int column, float x) {
  if (row >= out.rows || column >= out.columns) return;
  T* c = out.c + row * out.stride + column;
  *c = from_float<T>(out.accumulate ? to_float(*c) + x : x);
  if constexpr (kEpilogue != MatmulEpilogue::none)
    out.y[row * out.y_stride + column] = from_float<T>(activate<kEpilogue>(to_float(*c)));
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

// Of the lane's two rows in four blocks of a fragment, the upper one or the lower, rounded to bf16.
// That is 4 bytes a lane and block, of four lanes: half a sector of L2. Transposed over the blocks,
// lane t of four has the 16 bytes from column 8 t on, and four lanes two sectors.
__device__ __forceinline__ Bits16 round_row(const float (&bias)[4][2], const float (*c)[4],
                                            int half) {
  uint32_t words[4];
#pragma unroll
  for (int j = 0; j < 4; ++j)
    words[j] = pack_bf16(c[j][2 * half] + bias[j][0], c[j][2 * half + 1] + bias[j][1]);
  transpose_quad(words);
  return {{words[0], words[1], words[2], words[3]}};
}

// The two rows of a lane in 16 rows that lie inside of c; `first` is c's element of the lane's
// upper row and the first column.
__device__ __forceinline__ void store_inside(const MatmulStore<BFloat16>& out, BFloat16* first,
                                             const float (&bias)[4][2], const float (*c)[4]) {
  const int t = lane_index() % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    BFloat16* to = first + 8 * half * out.stride;
    if (!out.accumulate) {
      store16(to + 8 * t, round_row(bias, c, half));
      continue;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
      store_pair(to + 8 * j + 2 * t, true, c[j][2 * half] + bias[j][0],
                 c[j][2 * half + 1] + bias[j][1]);
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

// Wherever c ends; `row` is the lane's upper row.
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

template <bool kInside, int kBlocks, class T>
__device__ __forceinline__ void store_blocks(const MatmulStore<T>& out, int row, int column,
                                             const float (&c)[kBlocks][4]) {
#pragma unroll
  for (int first = 0; first < kBlocks; first += 4) {
    const int at = column + 8 * first;
    float bias[4][2] = {};
    if (out.bias != nullptr) load_bias(out, at, bias);
    if constexpr (kInside)
      store_inside(out, out.c + row * out.stride + at, bias, c + first);
    else
      store_outside(out, row, at, bias, c + first);
  }
}

// The first `count` of 8 elements.
__device__ __forceinline__ void store_group(BFloat16* to, int count, bool aligned,
                                            const Bits16& group) {
  if (aligned && count >= 8) return store16(to, group);
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) to[i].bits = uint16_t(group.word[i / 2] >> 16 * (i % 2));
}

// c and y of gelu or swiglu, wherever they end: activations are long, so that this is to be in the
// kernel once.
template <MatmulEpilogue kEpilogue, int kBlocks>
__device__ __forceinline__ void store_activated(const MatmulStore<BFloat16>& out, int row,
                                                int column, const float (&c)[kBlocks][4]) {
  constexpr bool kHalves = kEpilogue == MatmulEpilogue::swiglu;
  constexpr int kColumnBlocks = kHalves ? kBlocks / 2 : kBlocks;
#pragma unroll
  for (int first = 0; first < kColumnBlocks; first += 4) {
    const int begin = column + 8 * first, at = begin + 8 * (lane_index() % 4);
    float bias[4][2] = {}, up_bias[4][2] = {};
    if (out.bias != nullptr) {
      load_bias(out, begin, bias);
      if constexpr (kHalves) load_bias(out, begin + out.width, up_bias);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = row + 8 * half, count = r < out.rows ? out.width - at : 0;
      BFloat16* to = out.c + r * out.stride + at;
      float values[8];
      const Bits16 rounded = round_row(bias, c + first, half);
      store_group(to, count, out.aligned, rounded);
      unpack<BFloat16>(rounded, values);
      if constexpr (kHalves) {
        const Bits16 up = round_row(up_bias, c + kColumnBlocks + first, half);
        store_group(to + out.width, count, out.aligned, up);
        float ups[8];
        unpack<BFloat16>(up, ups);
#pragma unroll
        for (int i = 0; i < 8; ++i) values[i] = swiglu(values[i], ups[i]);
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) values[i] = activate<kEpilogue>(values[i]);
      }
      store_group(out.y + r * out.y_stride + at, count, out.aligned, pack<BFloat16>(values));
    }
  }
}

// 16 rows of c from `row` on and 8 kBlocks columns from `column` on, a multiple of 8, by the warp
// that holds them as the fragments that mma.sync and wgmma leave: c[j] is block j, with the words
// of mma.cuh. With swiglu, the first half of the blocks is of gate and the second of up, and
// `column` is that of y.
template <MatmulEpilogue kEpilogue, int kBlocks, class T>
__device__ __forceinline__ void store_fragments(const MatmulStore<T>& out, int row, int column,
                                                const float (&c)[kBlocks][4]) {
  static_assert(kBlocks % 8 == 0);
  const bool inside = out.aligned && row + 16 <= out.rows && column + 8 * kBlocks <= out.columns;
  row += lane_index() / 4;
  if constexpr (kEpilogue != MatmulEpilogue::none)
    store_activated<kEpilogue>(out, row, column, c);
  else if (inside)
    store_blocks<true>(out, row, column, c);
  else
    store_blocks<false>(out, row, column, c);
}

}  // namespace forja::kernels
