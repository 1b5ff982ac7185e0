// SPDX-License-Identifier: Apache-2.0
// How a multiplication is cut into blocks, and what its kernels are given. Everything follows from the shapes and the
// register tile; nothing from the number of threads, so the order of every sum is fixed.
#pragma once

#include <algorithm>
#include <cstdint>

#include "forja/tensor/tensor.h"

namespace forja::cpu {

struct GemmTile {
  int64_t rows, columns;  // of c, held in registers
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// Depth of a packed panel: one of b (32 columns, 32 KiB) and one of a stay in the first-level cache.
inline constexpr int64_t kGemmDepth = 256;
// Floats between the rows of a packed panel of a: more than the depth, so that they do not share cache sets.
inline constexpr int64_t kGemmRowStride = kGemmDepth + 16;

// Legend: [M, K] x [K, N]. A block of c, [block_rows, block_columns], is computed from strips of a and b that are
// packed `strip` deep at a time; a task of a thread is [task_rows, task_columns] of it.
struct GemmPlan {
  GemmTile tile;
  int64_t block_rows, block_columns, strip, task_rows, task_columns;

  GemmPlan(GemmTile t, int64_t m, int64_t n, int64_t k) : tile(t) {
    const int64_t rows = round_up(m, t.rows), columns = round_up(n, t.columns);
    block_columns = std::min(columns, round_up(3072, t.columns));
    block_rows = std::min(rows, round_up(std::max<int64_t>(512, (int64_t(1) << 21) / block_columns), t.rows));
    strip = std::min(round_up(k, kGemmDepth), 4 * kGemmDepth);
    task_rows = std::min(block_rows, 12 * t.rows);
    task_columns = std::min(block_columns, round_up(768, t.columns));
  }
  int64_t packed_a_panel() const { return tile.rows * kGemmRowStride; }
  int64_t packed_b_panel() const { return tile.columns * kGemmDepth; }
  int64_t packed_a_floats() const { return block_rows / tile.rows * packed_a_panel() * (strip / kGemmDepth); }
  int64_t packed_b_floats() const { return block_columns / tile.columns * packed_b_panel() * (strip / kGemmDepth); }
};

// A block of c and a strip of k: what the kernels see. Pointers are to the block's part.
struct GemmStrip {
  const GemmPlan* plan;
  int64_t rows, columns, depth;  // of this block and strip
  Tensor a, b, c, bias;          // a [rows, depth], b [depth, columns], c [rows, columns], bias [columns] or undefined
  float* packed_a;
  float* packed_b;
  // Sums so far, fp32, of the block: c itself where that is fp32.
  float* sums;
  int64_t sums_stride;
  bool first;  // the first strip: the sums start from c (add_c), the bias, or zero
  bool last;   // the last strip: the result goes to c
  bool add_c;
};

}  // namespace forja::cpu
