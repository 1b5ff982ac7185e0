// SPDX-License-Identifier: Apache-2.0
// The functions of the activations, shared by their own kernels and by the epilogues of products,
// which so give the same bits.
#pragma once

#include "kernels/common/numbers.cuh"

namespace forja::kernels {

__device__ __forceinline__ float sigmoid(float x) { return fast_reciprocal(1.0f + fast_exp(-x)); }

// The distribution function of the standard normal. With a = |x| and t = 1 / (1 + 0.3 a):
// Phi(-a) = exp(-a^2 / 2) t p(t), p the polynomial of the CPU's version (csrc/ops/cpu/vec-inl.h),
// which keeps the relative accuracy of small values, unlike 1 + erf.
__device__ __forceinline__ float normal_cdf(float x) {
  const float a = fabsf(x);
  const float t = fast_reciprocal(0.3f * a + 1.0f);
  float p = -0.020956024236529876f * t + 0.1142574529514405f;
  p = p * t - 0.2325244073163213f;
  p = p * t + 0.19755058456609906f;
  p = p * t - 0.08421348151641854f;
  p = p * t + 0.09871138234526552f;
  p = p * t + 0.07751790107697594f;
  p = p * t + 0.11041841109557173f;
  p = p * t + 0.11955043147351704f;
  p = p * t + 0.1196877476912642f;
  const float tail = p * t * fast_exp(-0.5f * a * a);
  return x < 0.0f ? tail : 1.0f - tail;
}

__device__ __forceinline__ float gelu_erf(float x) { return x * normal_cdf(x); }
// The tanh form: (1 + tanh(u)) / 2 = sigmoid(2u), 2u = 2 sqrt(2/pi) (x + 0.044715 x^3).
__device__ __forceinline__ float gelu_tanh(float x) {
  return x * sigmoid(x * (0.0713548163f * x * x + 1.59576912f));
}

__device__ __forceinline__ float swiglu(float gate, float up) {
  return up * (gate * sigmoid(gate));
}

}  // namespace forja::kernels
