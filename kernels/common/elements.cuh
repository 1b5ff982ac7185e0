// SPDX-License-Identifier: Apache-2.0
// Groups of N consecutive elements, in as few accesses as their alignment and number allow. A group
// is one access of 16 bytes when N is kPack<T>; where fp32 and bf16 meet, N = 4 (16 and 8 bytes)
// keeps the accesses of a warp without gaps.
#pragma once

#include "kernels/common/vector.cuh"

namespace forja {

// Elements of a group for tensors of these dtypes.
template <class... T>
constexpr int kGroup = (sizeof(T) + ...) == 2 * sizeof...(T) ? 8 : 4;

// values[i] = x[i] for a whole group (aligned: x is, to 16 bytes or to the group), or for the
// `count` elements that are left; the others are 0.
template <int N, class T>
__device__ __forceinline__ void load_elements(const T* x, int count, bool aligned,
                                              float (&values)[N]) {
  if (aligned && count >= N) {
    if constexpr (N * sizeof(T) == 8) {
      const Bits8 b = load8(x);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        values[2 * i] = low_float(b.word[i]);
        values[2 * i + 1] = high_float(b.word[i]);
      }
    } else {
#pragma unroll
      for (int i = 0; i < N; i += kPack<T>) {
        float part[kPack<T>];
        load_pack(x + i, part);
#pragma unroll
        for (int j = 0; j < kPack<T>; ++j) values[i + j] = part[j];
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = i < count ? to_float(x[i]) : 0.0f;
}

template <int N, class T>
__device__ __forceinline__ void store_elements(T* x, int count, bool aligned,
                                               const float (&values)[N]) {
  if (aligned && count >= N) {
    if constexpr (N * sizeof(T) == 8) {
      store8(x, {{pack_bf16(values[0], values[1]), pack_bf16(values[2], values[3])}});
    } else {
#pragma unroll
      for (int i = 0; i < N; i += kPack<T>) {
        float part[kPack<T>];
#pragma unroll
        for (int j = 0; j < kPack<T>; ++j) part[j] = values[i + j];
        store_pack(x + i, part);
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (i < count) x[i] = from_float<T>(values[i]);
}

// The bits of a group of kPack<T>, for keeping it in four registers.
template <class T>
__device__ __forceinline__ Bits16 load_group(const T* x, int count, bool aligned) {
  if (aligned && count >= kPack<T>) return load16(x);
  float values[kPack<T>];
#pragma unroll
  for (int i = 0; i < kPack<T>; ++i) values[i] = i < count ? to_float(x[i]) : 0.0f;
  return pack<T>(values);
}

template <class T>
__device__ __forceinline__ void store_group(T* x, int count, bool aligned, const Bits16& bits) {
  if (aligned && count >= kPack<T>) return store16(x, bits);
  float values[kPack<T>];
  unpack<T>(bits, values);
#pragma unroll
  for (int i = 0; i < kPack<T>; ++i)
    if (i < count) x[i] = from_float<T>(values[i]);
}

// A group of a parameter that is fp32 or of the dtype T.
template <class T, int N>
__device__ __forceinline__ void load_parameter(const void* x, bool is_fp32, int64_t first,
                                               int count, bool aligned, float (&values)[N]) {
  if (is_fp32)
    load_elements(static_cast<const float*>(x) + first, count, aligned, values);
  else
    load_elements(static_cast<const T*>(x) + first, count, aligned, values);
}

// As it is read back from memory.
template <class T>
__device__ __forceinline__ float rounded(float x) {
  return to_float(from_float<T>(x));
}

__device__ __forceinline__ int clamp_count(int64_t left, int limit) {
  return left < 0 ? 0 : left < limit ? int(left) : limit;
}

}  // namespace forja
