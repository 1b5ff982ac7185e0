// SPDX-License-Identifier: Apache-2.0
// CPU versions of ops/elementwise.h; arguments are checked there.
#pragma once

#include <algorithm>
#include <cstdint>

#include "forja/tensor/tensor.h"

namespace forja::cpu {

// Sums over rows are taken in blocks of rows, each to a row of `partial`, then over the blocks in
// order: the same for any number of threads. Enough blocks for many threads, few enough that the
// second pass is small.
inline int64_t row_blocks(int64_t rows) { return std::clamp<int64_t>(rows / 32, 1, 64); }
inline int64_t rows_per_block(int64_t rows) {
  return std::max<int64_t>(1, (rows + row_blocks(rows) - 1) / row_blocks(rows));
}

void fill_zero(const Tensor& x);
void scale(const Tensor& x, float factor, const Tensor& out);
void fill_value(const Tensor& x, float value);
void fill_normal(const Tensor& x, uint64_t key, int64_t first_element, float mean, float std);
void convert(const Tensor& in, const Tensor& out);
void add(const Tensor& a, const Tensor& b, const Tensor& out);
void bias_gradient(const Tensor& dy, const Tensor& bias_gradient, const Tensor& partial);
// gradient[c] += sum over blocks of partial[block, c], in order of the blocks.
void add_partial_sums(const Tensor& partial, const Tensor& gradient);
int64_t find_non_finite(const Tensor& x);

}  // namespace forja::cpu
