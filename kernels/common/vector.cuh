// SPDX-License-Identifier: Apache-2.0
// Memory by 16 bytes a thread: what a memory-bound kernel should move at once.
#pragma once

#include "kernels/common/kernel.cuh"
#include "kernels/common/numbers.cuh"

namespace forja {

struct alignas(16) Bits16 {
  uint32_t word[4];
};
struct alignas(8) Bits8 {
  uint32_t word[2];
};

#ifdef __CUDACC__

__device__ __forceinline__ Bits16 load16(const void* address) {
  const uint4 v = *static_cast<const uint4*>(address);
  return {{v.x, v.y, v.z, v.w}};
}
__device__ __forceinline__ void store16(void* address, const Bits16& b) {
  *static_cast<uint4*>(address) = make_uint4(b.word[0], b.word[1], b.word[2], b.word[3]);
}
__device__ __forceinline__ Bits8 load8(const void* address) {
  const uint2 v = *static_cast<const uint2*>(address);
  return {{v.x, v.y}};
}
__device__ __forceinline__ void store8(void* address, const Bits8& b) {
  *static_cast<uint2*>(address) = make_uint2(b.word[0], b.word[1]);
}

#else

inline void check_aligned(const void* address, uintptr_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0)
    emulator::fault("misaligned access of several bytes");
}
template <class B>
B load_bits(const void* address) {
  check_aligned(address, sizeof(B));
  B b;
  memcpy(&b, address, sizeof(B));
  return b;
}
template <class B>
void store_bits(void* address, const B& b) {
  check_aligned(address, sizeof(B));
  memcpy(address, &b, sizeof(B));
}
inline Bits16 load16(const void* address) { return load_bits<Bits16>(address); }
inline void store16(void* address, const Bits16& b) { store_bits(address, b); }
inline Bits8 load8(const void* address) { return load_bits<Bits8>(address); }
inline void store8(void* address, const Bits8& b) { store_bits(address, b); }

#endif

// Elements of T that 16 bytes hold.
template <class T>
constexpr int kPack = 16 / int(sizeof(T));

// The bits of kPack<T> elements of T as floats, and back.
template <class T>
__device__ __forceinline__ void unpack(const Bits16& b, float (&values)[kPack<T>]) {
  if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) memcpy(&values[i], &b.word[i], 4);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[2 * i] = low_float(b.word[i]);
      values[2 * i + 1] = high_float(b.word[i]);
    }
  }
}
template <class T>
__device__ __forceinline__ Bits16 pack(const float (&values)[kPack<T>]) {
  Bits16 b;
  if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) memcpy(&b.word[i], &values[i], 4);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) b.word[i] = pack_bf16(values[2 * i], values[2 * i + 1]);
  }
  return b;
}

// kPack<T> consecutive elements as floats; x + i is 16-byte aligned.
template <class T>
__device__ __forceinline__ void load_pack(const T* x, float (&values)[kPack<T>]) {
  unpack<T>(load16(x), values);
}
template <class T>
__device__ __forceinline__ void store_pack(T* x, const float (&values)[kPack<T>]) {
  store16(x, pack<T>(values));
}

// Whether every one of the pointers is 16-byte aligned, and so may be moved by packs.
template <class... P>
bool all_aligned16(const P*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace forja
