// SPDX-License-Identifier: Apache-2.0
// Memory by 16 bytes a thread: what a memory-bound kernel should move at once.
#pragma once

#include "kernels/common/kernel.cuh"
#include "kernels/common/numbers.cuh"

namespace forja {

struct alignas(16) Bits16 {
  uint32_t word[4];
};

#ifdef __CUDACC__

__device__ __forceinline__ Bits16 load16(const void* address) {
  const uint4 v = *static_cast<const uint4*>(address);
  return {{v.x, v.y, v.z, v.w}};
}
__device__ __forceinline__ void store16(void* address, const Bits16& b) {
  *static_cast<uint4*>(address) = make_uint4(b.word[0], b.word[1], b.word[2], b.word[3]);
}

#else

inline void check_aligned(const void* address, uintptr_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0)
    emulator::fault("misaligned access of several bytes");
}
inline Bits16 load16(const void* address) {
  check_aligned(address, 16);
  Bits16 b;
  memcpy(&b, address, 16);
  return b;
}
inline void store16(void* address, const Bits16& b) {
  check_aligned(address, 16);
  memcpy(address, &b, 16);
}

#endif

// Elements of T that 16 bytes hold.
template <class T>
constexpr int kPack = 16 / int(sizeof(T));

// kPack<T> consecutive elements as floats; x + i is 16-byte aligned.
__device__ __forceinline__ void load_pack(const float* x, float (&values)[4]) {
  const Bits16 b = load16(x);
#pragma unroll
  for (int i = 0; i < 4; ++i) memcpy(&values[i], &b.word[i], 4);
}
__device__ __forceinline__ void load_pack(const BFloat16* x, float (&values)[8]) {
  const Bits16 b = load16(x);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = low_float(b.word[i]);
    values[2 * i + 1] = high_float(b.word[i]);
  }
}
__device__ __forceinline__ void store_pack(float* x, const float (&values)[4]) {
  Bits16 b;
#pragma unroll
  for (int i = 0; i < 4; ++i) memcpy(&b.word[i], &values[i], 4);
  store16(x, b);
}
__device__ __forceinline__ void store_pack(BFloat16* x, const float (&values)[8]) {
  Bits16 b;
#pragma unroll
  for (int i = 0; i < 4; ++i) b.word[i] = pack_bf16(values[2 * i], values[2 * i + 1]);
  store16(x, b);
}

// Whether every one of the pointers is 16-byte aligned, and so may be moved by packs.
template <class... P>
bool all_aligned16(const P*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace forja
