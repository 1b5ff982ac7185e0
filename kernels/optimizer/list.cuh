// SPDX-License-Identifier: Apache-2.0
// Many tensors in one launch: blocks take chunks of equal size, one after the other with a stride
// of the grid, and look up in the list which range a chunk is of. A small tensor costs one chunk,
// not a launch.
#pragma once

#include "kernels/common/elements.cuh"
#include "kernels/optimizer/adamw.h"

namespace forja::kernels {

// The elements [begin, end) of a range.
struct Chunk {
  const AdamWRange* range;
  int64_t begin, end;
};

// Halves the list: some ten reads that hit the cache, beside 4096 elements.
__device__ __forceinline__ Chunk chunk_of(const AdamWList& list, int64_t index) {
  int low = 0, high = list.num_ranges - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (list.table[middle].first_chunk <= index)
      low = middle;
    else
      high = middle - 1;
  }
  const AdamWRange* range = list.table + low;
  const int64_t begin = (index - range->first_chunk) * kAdamWChunk, end = begin + kAdamWChunk;
  return {range, begin, end < range->count ? end : range->count};
}

}  // namespace forja::kernels
