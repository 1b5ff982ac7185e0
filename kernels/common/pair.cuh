// SPDX-License-Identifier: Apache-2.0
// Two neighbouring elements as one access.
#pragma once

#include "kernels/common/vector.cuh"

namespace forja {

// `to` is aligned to two elements.
__device__ __forceinline__ void store_pair(float* to, float first, float second) {
#ifdef __CUDACC__
  *reinterpret_cast<float2*>(to) = make_float2(first, second);
#else
  check_aligned(to, 8);
  to[0] = first;
  to[1] = second;
#endif
}
__device__ __forceinline__ void store_pair(BFloat16* to, float first, float second) {
#ifdef __CUDACC__
  *reinterpret_cast<uint32_t*>(to) = pack_bf16(first, second);
#else
  check_aligned(to, 4);
  to[0] = from_float<BFloat16>(first);
  to[1] = from_float<BFloat16>(second);
#endif
}

}  // namespace forja
