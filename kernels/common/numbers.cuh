// SPDX-License-Identifier: Apache-2.0
// Conversions between fp32 and bf16, and the fast functions of the hardware.
#pragma once

#include "kernels/common/kernel.cuh"

namespace forja {

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(BFloat16 x) { return float(x); }

#ifdef __CUDACC__

// Two numbers rounded to bf16; `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float fast_log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float inverse_sqrt(float x) { return rsqrtf(x); }
__device__ __forceinline__ float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Of an angle in turns; there are no large angles, for which a GPU would need local memory.
__device__ __forceinline__ void sin_cos_of_turns(double turns, double* sine, double* cosine) {
  sincospi(2.0 * turns, sine, cosine);
}

#else

inline uint32_t pack_bf16(float low, float high) {
  return uint32_t(BFloat16(low).bits) | uint32_t(BFloat16(high).bits) << 16;
}
inline float fast_exp2(float x) { return exp2f(x); }
inline float fast_log2(float x) { return log2f(x); }
inline float inverse_sqrt(float x) { return 1.0f / sqrtf(x); }
inline float fast_reciprocal(float x) { return 1.0f / x; }
inline void sin_cos_of_turns(double turns, double* sine, double* cosine) {
  *sine = sin(6.283185307179586 * turns);
  *cosine = cos(6.283185307179586 * turns);
}

#endif

// exp(x): an error of about 2 units in the last place, and |x| / 2 more from the argument.
__device__ __forceinline__ float fast_exp(float x) { return fast_exp2(x * 1.44269504f); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ BFloat16 from_float<BFloat16>(float x) {
  BFloat16 y;
  y.bits = uint16_t(pack_bf16(x, 0.0f));
  return y;
}

__device__ __forceinline__ float low_float(uint32_t packed) {
  BFloat16 x;
  x.bits = uint16_t(packed);
  return float(x);
}
__device__ __forceinline__ float high_float(uint32_t packed) {
  BFloat16 x;
  x.bits = uint16_t(packed >> 16);
  return float(x);
}

}  // namespace forja
