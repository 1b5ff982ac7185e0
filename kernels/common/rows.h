// SPDX-License-Identifier: Apache-2.0
// Tensors as rows of contiguous elements, and how the threads of a launch are laid over them.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"

namespace forja::kernels {

// All dims of a tensor but the last, as one sequence of rows. There are fewer than 2^32.
struct Rows {
  void* data = nullptr;
  uint32_t inner = 1;                          // rows of the inner dim
  int64_t inner_stride = 0, outer_stride = 0;  // in elements

  template <class T>
  FORJA_HD T* row(int64_t r) const {
    T* first = static_cast<T*>(data);
    if (inner == 1) return first + r * outer_stride;
    const uint32_t outer = uint32_t(r) / inner;
    return first + outer * outer_stride + (uint32_t(r) - outer * inner) * inner_stride;
  }
  // Whether every row begins where groups of `elements` are aligned (or there are no rows).
  bool aligned(int elements) const {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && inner_stride % elements == 0 &&
           outer_stride % elements == 0;
  }
};

// A launch with one thread a group of elements: a block covers one row, a part of one, or several
// short ones.
struct RowGrid {
  static constexpr int kThreads = 256;
  int log_threads = 0;  // of a row in a block
  uint32_t column_blocks = 1;
  int64_t blocks = 0;

  RowGrid(int64_t rows, int64_t columns, int group) {
    const int64_t groups = (columns + group - 1) / group;
    while ((1 << log_threads) < kThreads && (1 << log_threads) < groups) ++log_threads;
    column_blocks = uint32_t((groups + (1 << log_threads) - 1) >> log_threads);
    const int64_t rows_per_block = kThreads >> log_threads;
    blocks = (rows + rows_per_block - 1) / rows_per_block * column_blocks;
  }
};

// The group of a thread in it.
struct RowPlace {
  int64_t row, group;
  FORJA_HD RowPlace(const RowGrid& grid, uint32_t block, int thread) {
    const uint32_t row_block = block / grid.column_blocks;
    const uint32_t column_block = block - row_block * grid.column_blocks;
    const int threads = 1 << grid.log_threads;
    row =
        int64_t(row_block) * (RowGrid::kThreads >> grid.log_threads) + (thread >> grid.log_threads);
    group = (int64_t(column_block) << grid.log_threads) + (thread & (threads - 1));
  }
};

}  // namespace forja::kernels
