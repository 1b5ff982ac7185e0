// SPDX-License-Identifier: Apache-2.0
// Sums over the rows of a matrix, in a fixed order, in two passes. Pointers are the device's;
// everything is asynchronous.
#pragma once

#include <algorithm>
#include <cstdint>

#include "forja/base/dtype.h"
#include "kernels/common/rows.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

// Rows of partial sums for a matrix of this shape; the same on all devices. A block has 256 columns
// or fewer and at least 32 rows; together they are at most 1024 where that leaves one a strip.
inline int64_t column_sum_blocks(int64_t rows, int64_t columns) {
  const int64_t strips = std::max<int64_t>(1, (columns + 255) / 256);
  return std::clamp<int64_t>((rows + 31) / 32, 1, std::max<int64_t>(1, 1024 / strips));
}

// partial [column_sum_blocks, columns] = sums over parts of the rows of x.
void column_sums(const Rows& x, DType dtype, int64_t rows, int64_t columns, float* partial,
                 KernelStream stream);

// out[c] += sum over the rows of partial [rows, columns].
void add_column_sums(const float* partial, int64_t rows, int64_t columns, float* out,
                     KernelStream stream);

}  // namespace forja::kernels
