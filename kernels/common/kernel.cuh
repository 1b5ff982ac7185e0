// SPDX-License-Identifier: Apache-2.0
// What every kernel begins with. One source, two builds: nvcc compiles it for GPUs; the C++
// compiler compiles it for the emulator (kernels/emulator), where __global__ functions are plain
// ones and a thread is a fiber.
//
// Rules that make both work:
//   - PTX and warp instructions only through the wrappers of kernels/common.
//   - All shared memory is one struct of SharedArrays, from shared_storage<T>(); no __shared__.
//   - The number of threads of a block is a multiple of 32; no thread returns before a barrier or a
//     warp instruction that others still reach.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include <cmath>
#include <cstring>

#include "kernels/emulator/emulator.h"
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx (::forja::emulator::place().thread_index)
#define blockIdx (::forja::emulator::place().block_index)
#define blockDim (::forja::emulator::place().block_dim)
#define gridDim (::forja::emulator::place().grid_dim)
#endif

namespace forja {

constexpr int kWarp = 32;

#ifdef __CUDACC__

__device__ __forceinline__ void sync_block() { __syncthreads(); }
// `count` threads (a multiple of 32) meet at barrier `id`, 1 to 15.
__device__ __forceinline__ void sync_threads(int id, int count) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
}
__device__ __forceinline__ void arrive_threads(int id, int count) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory");
}

template <class T>
__device__ __forceinline__ T& shared_storage() {
  extern __shared__ __align__(1024) unsigned char forja_shared_memory[];
  return *reinterpret_cast<T*>(forja_shared_memory);
}

// A fault of the caller that only the device can see: ends the kernel.
__device__ __forceinline__ void kernel_fault(const char*) { __trap(); }

__device__ __forceinline__ float atomic_add(float* address, float value) {
  return atomicAdd(address, value);
}
__device__ __forceinline__ int atomic_add(int* address, int value) {
  return atomicAdd(address, value);
}
__device__ __forceinline__ void atomic_min(int64_t* address, int64_t value) {
  atomicMin(reinterpret_cast<long long*>(address), static_cast<long long>(value));
}
__device__ __forceinline__ void memory_fence() { __threadfence(); }

#else

inline void sync_block() {
  const dim3& d = blockDim;
  emulator::barrier(0, int(d.x * d.y * d.z), false);
}
inline void sync_threads(int id, int count) { emulator::barrier(id, count, false); }
inline void arrive_threads(int id, int count) { emulator::barrier(id, count, true); }

template <class T>
T& shared_storage() {
  return *static_cast<T*>(emulator::shared_memory(sizeof(T)));
}

inline void kernel_fault(const char* what) { emulator::fault(what); }

inline float atomic_add(float* address, float value) {
  const float before = *address;
  *address += value;
  return before;
}
inline int atomic_add(int* address, int value) {
  const int before = *address;
  *address += value;
  return before;
}
inline void atomic_min(int64_t* address, int64_t value) {
  if (value < *address) *address = value;
}
inline void memory_fence() {}

#endif

// An array in shared memory; indices are checked under the emulator.
template <class T, int N>
struct SharedArray {
  T elements[N];
  __device__ __forceinline__ T& operator[](int i) {
#ifndef __CUDACC__
    if (i < 0 || i >= N) emulator::fault("index outside of a shared array");
#endif
    return elements[i];
  }
  // The address of element i, of which `count` are accessed.
  __device__ __forceinline__ T* at(int i, int count = 1) {
#ifndef __CUDACC__
    if (i < 0 || i + count > N) emulator::fault("address outside of a shared array");
#endif
    return elements + i;
  }
};

// Linear index of the thread in its block, of a one-dimensional block.
__device__ __forceinline__ int thread_index() { return int(threadIdx.x); }
__device__ __forceinline__ int lane_index() { return int(threadIdx.x % kWarp); }
__device__ __forceinline__ int warp_index() { return int(threadIdx.x / kWarp); }

template <class T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace forja
