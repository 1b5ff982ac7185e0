// SPDX-License-Identifier: Apache-2.0
// How a multiplication is cut into blocks, and what its kernels are given. The order of every sum
// follows from the shapes alone; the number of threads only decides who computes which tile.
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

// Depth of a packed panel: one of b (32 columns, 32 KiB) and one of a (14 rows) stay in the
// first-level cache.
inline constexpr int64_t kGemmDepth = 256;
// Floats between the rows of a packed panel of a (kRowStride of tile-inl.h).
inline constexpr int64_t kGemmRowStride = 272;

// Legend: c [M, N] = a [M, K] b [K, N]. A block of c, [block_rows, block_columns], is computed from
// strips of a and b, `strip` deep. All threads pack the strip of b; then each takes tasks, rows of
// tiles of c, for which it packs a itself (all of the strip) and goes through groups of columns
// that its second-level cache can hold.
struct GemmPlan {
  static constexpr int64_t kGroupColumns = 768;

  GemmTile tile;
  int64_t block_rows, block_columns, strip, row_tasks, column_tasks;

  GemmPlan(GemmTile t, int64_t m, int64_t n, int64_t k, bool fp32_output, int64_t threads)
      : tile(t) {
    constexpr int64_t kBlockFloats = int64_t(1) << 22;  // packed b, or sums: 16 MiB
    block_columns = std::min(round_up(n, t.columns), round_up(4 * kGroupColumns, t.columns));
    const int64_t deepest =
        std::min<int64_t>(12 * kGemmDepth, kBlockFloats / block_columns / kGemmDepth * kGemmDepth);
    strip = std::min(round_up(k, kGemmDepth), deepest);
    block_rows = round_up(m, t.rows);
    // Sums that outlive a strip are kept for the whole block.
    if (!fp32_output && k > strip)
      block_rows = std::min(block_rows, round_up(kBlockFloats / block_columns, t.rows));
    // About 12 tiles a task share a panel of b; tasks enough, and as many for each thread.
    const int64_t tiles = block_rows / t.rows, panels = block_columns / t.columns;
    row_tasks = divide_up(tiles, 12);
    column_tasks = 1;
    if (row_tasks >= threads) {
      row_tasks = std::min(tiles, round_up(row_tasks, threads));
    } else {
      column_tasks = std::min(divide_up(threads, row_tasks), divide_up(panels, 4));
    }
  }
  bool one_strip(int64_t k) const { return k <= strip; }
  int64_t packed_a_panel() const { return tile.rows * kGemmRowStride; }
  int64_t packed_b_panel() const { return tile.columns * kGemmDepth; }
  int64_t task_tiles() const { return divide_up(block_rows / tile.rows, row_tasks); }
  // Scratch of each thread: packed a, and sums of one group.
  int64_t packed_a_floats() const { return task_tiles() * packed_a_panel() * (strip / kGemmDepth); }
  int64_t group_floats() const {
    return task_tiles() * tile.rows * round_up(kGroupColumns, tile.columns);
  }
  int64_t packed_b_floats() const {
    return block_columns / tile.columns * packed_b_panel() * (strip / kGemmDepth);
  }
};

// A block of c and a strip of k: what the kernels see. Tensors are the block's part.
struct GemmStrip {
  const GemmPlan* plan;
  int64_t rows, columns, depth;  // of this block and strip
  Tensor a, b, c,
      bias;  // a [rows, depth], b [depth, columns], c [rows, columns], bias [columns] or undefined
  float* packed_b;
  float* sums;  // fp32 sums of the block where they outlive the strip and c cannot hold them; else
                // nullptr
  bool first;   // the first strip: sums start from c (add_c), the bias, or zero
  bool last;    // the last strip: the result goes to c
  bool add_c;
};

}  // namespace forja::cpu
