// SPDX-License-Identifier: Apache-2.0
// Copies of whole tiles by the copy engine (TMA, sm_90), issued by one thread.
#pragma once

#include "kernels/common/mbarrier.cuh"
#include "kernels/common/tensor_map.h"

namespace forja {

#ifdef __CUDACC__

// Fetches the map itself, which the first copy would wait for.
__device__ __forceinline__ void prefetch_tensor_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// The box of a two-dimensional map at (x, y), innermost dim first, to `shared`: row after row, 128
// bytes aligned (1024 where swizzled, for the pattern to begin with the tile). What lies outside
// of the tensor is zero. All bytes of the box count for the barrier's phase.
__device__ __forceinline__ void load_tile(void* shared, const TensorMap& map, Mbarrier& barrier,
                                          int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y)
      : "memory");
}
// The same of a three-dimensional map: a box that is one element high along y.
__device__ __forceinline__ void load_tile(void* shared, const TensorMap& map, Mbarrier& barrier,
                                          int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// What this thread wrote to shared memory, seen by copies and products that begin after a barrier
// (they go another way than the threads).
__device__ __forceinline__ void publish_to_engines() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

#else

namespace internal {

constexpr uint32_t kSwizzleChunk = 16;

// Bits 4 to 6 of an address, changed by bits 7 to 9.
inline uint32_t swizzle128(uint32_t address) {
  return address ^ (address >> 7 & 7) * kSwizzleChunk;
}

// One row of the box: `valid` bytes of it from `from`, zeros for the rest. `window` is where
// address 0 of shared memory would lie.
inline void copy_row(char* window, uint32_t address, const char* from, int64_t valid, int64_t bytes,
                     TensorSwizzle swizzle) {
  for (int64_t done = 0; done < bytes; done += kSwizzleChunk) {
    const uint32_t linear = address + uint32_t(done);
    char* to = window + (swizzle == TensorSwizzle::bytes128 ? swizzle128(linear) : linear);
    const int64_t count = valid - done < 0 ? 0 : valid - done < 16 ? valid - done : 16;
    memset(to, 0, kSwizzleChunk);
    if (count > 0) memcpy(to, from + done, size_t(count));
  }
}

// Rows of the box run along `along`, dim 1 or 2 of the map.
inline void copy_box(char* window, uint32_t address, const TensorMap& map, int x, int y, int z) {
  const int along = map.rank - 1, from_row = along == 2 ? z : y;
  const int64_t row_bytes = map.box[0] * map.element_bytes;
  const bool exists = along == 1 || y < map.sizes[1];
  const char* plane = map.data + (along == 2 ? y * map.strides_bytes[1] : 0);
  for (int i = 0; i < map.box[along]; ++i) {
    const int row = from_row + i;
    const bool inside = exists && x < map.sizes[0] && row < map.sizes[along];
    const int64_t valid = inside ? (map.sizes[0] - x) * map.element_bytes : 0;
    const char* from =
        inside ? plane + row * map.strides_bytes[along] + int64_t(x) * map.element_bytes : nullptr;
    copy_row(window, address + uint32_t(i * row_bytes), from, valid, row_bytes, map.swizzle);
  }
}

inline void load_box(void* shared, const TensorMap& map, Mbarrier& barrier, int x, int y, int z) {
  if (x < 0 || y < 0 || z < 0) emulator::fault("TMA: negative coordinates are not emulated");
  const uint32_t address = window_address(shared);
  const int bytes = map.box[0] * map.box[map.rank - 1] * map.element_bytes;
  if (address % 128 != 0) emulator::fault("TMA: a tile that is not aligned to 128 bytes");
  if (map.swizzle == TensorSwizzle::bytes128 && map.box[0] * map.element_bytes != 128)
    emulator::fault("TMA: swizzled rows of other than 128 bytes are not emulated");
  // The swizzle stays within 1024 bytes.
  const uint32_t end = (address + uint32_t(bytes) + 1023) / 1024 * 1024;
  in_window(address, int(map.swizzle == TensorSwizzle::none ? uint32_t(bytes) : end - address));
  char* window = static_cast<char*>(emulator::shared_memory(0)) - kSharedWindow;
  Mbarrier* at = &barrier;
  emulator::enqueue_anytime([=] {
    copy_box(window, address, map, x, y, z);
    complete_bytes(*at, bytes);
  });
}

}  // namespace internal

inline void prefetch_tensor_map(const TensorMap&) {}

inline void load_tile(void* shared, const TensorMap& map, Mbarrier& barrier, int x, int y) {
  if (map.rank != 2) emulator::fault("TMA: coordinates of another rank than the tensor map");
  internal::load_box(shared, map, barrier, x, y, 0);
}
inline void load_tile(void* shared, const TensorMap& map, Mbarrier& barrier, int x, int y, int z) {
  if (map.rank != 3) emulator::fault("TMA: coordinates of another rank than the tensor map");
  if (map.box[1] != 1) emulator::fault("TMA: boxes with more than one plane are not emulated");
  internal::load_box(shared, map, barrier, x, y, z);
}
inline void publish_to_engines() {}

#endif

}  // namespace forja
