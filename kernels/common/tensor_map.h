// SPDX-License-Identifier: Apache-2.0
// What the copy engine (TMA, sm_90) must know of a tensor: made by a launcher, passed to the kernel
// as a `const __grid_constant__ TensorMap` parameter, used by load_tile() of tma.cuh.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "forja/base/dtype.h"

namespace forja {

enum class TensorSwizzle {
  none,
  // Of each 1024 bytes of the tile in shared memory, chunk i (16 bytes) of row r (128 bytes) lies
  // at i ^ r: wgmma and ldmatrix then read columns of chunks without bank conflicts.
  bytes128,
};

#ifdef __CUDACC__

struct alignas(64) TensorMap {
  uint64_t opaque[16];  // a CUtensorMap
};

#else

struct TensorMap {
  const char* data;
  int element_bytes, rank;
  int64_t sizes[5], strides_bytes[5];
  int box[5];
  TensorSwizzle swizzle;
};

#endif

struct TensorMapDim {
  int64_t size;
  int64_t stride;  // in elements; 1 for the innermost dim
  int box;         // elements that one copy takes, at most 256
};

// Dims from the innermost on. `data` and, in bytes, all strides but the first must be multiples of
// 16; a box's rows too, and they are at most 128 bytes with TensorSwizzle::bytes128. Throws,
// naming the kernel, where that does not hold or the driver refuses.
TensorMap make_tensor_map(const char* kernel, const void* data, DType dtype,
                          std::initializer_list<TensorMapDim> dims, TensorSwizzle swizzle);

}  // namespace forja
