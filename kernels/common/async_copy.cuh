// SPDX-License-Identifier: Apache-2.0
// Copies from global to shared memory that go on beside computing (cp.async, sm_80).
#pragma once

#include "kernels/common/kernel.cuh"

namespace forja {

#ifdef __CUDACC__

// The address of shared memory as PTX has it.
__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return uint32_t(__cvta_generic_to_shared(p));
}
// 16 bytes, into the calling thread's open group; zeros where not valid (`global` is then not
// read).
__device__ __forceinline__ void copy_async16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
// The same of 8 bytes.
__device__ __forceinline__ void copy_async8(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid ? 8 : 0)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most N of the thread's groups are pending. Other threads see the data after a barrier.
template <int N>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#else

namespace internal {

template <int kBytes>
void copy_async(void* shared, const void* global, bool valid) {
  if (reinterpret_cast<uintptr_t>(shared) % kBytes != 0 ||
      (valid && reinterpret_cast<uintptr_t>(global) % kBytes != 0))
    emulator::fault("cp.async of misaligned addresses");
  emulator::enqueue(emulator::Queue::copy, [=] {
    if (valid) memcpy(shared, global, kBytes);
    if (!valid) memset(shared, 0, kBytes);
  });
}

}  // namespace internal

inline void copy_async16(void* shared, const void* global, bool valid) {
  internal::copy_async<16>(shared, global, valid);
}
inline void copy_async8(void* shared, const void* global, bool valid) {
  internal::copy_async<8>(shared, global, valid);
}
inline void commit_copies() { emulator::commit(emulator::Queue::copy); }
template <int N>
void wait_copies() {
  emulator::wait_groups(emulator::Queue::copy, N);
}

#endif

}  // namespace forja
