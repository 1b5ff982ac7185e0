// SPDX-License-Identifier: Apache-2.0
// The order in which tiles of c are computed: down groups of kTileGroup rows of tiles, then to the
// next column. Tiles that run at the same time then form a near square, which reads the least of a
// and b, and L2 keeps it.
#pragma once

#include "kernels/common/kernel.cuh"

namespace forja::kernels {

constexpr int kTileGroup = 16;  // of about 132 tiles (or 216) at the same time

struct TileGrid {
  int rows, columns;  // in tiles
  __host__ __device__ int num_tiles() const { return rows * columns; }
};

struct TilePlace {
  int row, column;  // in tiles
};

__device__ __forceinline__ TilePlace place_of_tile(const TileGrid& grid, int tile) {
  const int in_group = kTileGroup * grid.columns;
  const int first_row = tile / in_group * kTileGroup;
  const int rows = grid.rows - first_row < kTileGroup ? grid.rows - first_row : kTileGroup;
  const int rest = tile % in_group;
  return {first_row + rest % rows, rest / rows};
}

}  // namespace forja::kernels
