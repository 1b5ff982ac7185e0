// SPDX-License-Identifier: Apache-2.0
// Rows of a table by index, both ways.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

// out[n] = table[ids[n] - first_row], or zeros for an id outside of the table: the rows
// [first_row, first_row + V) of a larger one, of which other ranks hold the rest.
//   ids [N] int32; table [V, H], out [N, H]: fp32 or bf16, both the same.
// Here and below: throws when an id is outside [0, total_rows); on a GPU, which cannot, such an id
// is one outside of the table.
void embedding_forward(const Context& ctx, const Tensor& ids, const Tensor& table,
                       int64_t first_row, int64_t total_rows, const Tensor& out);

// out[n] += table[ids[n]]; as above, of a whole table.
void embedding_add(const Context& ctx, const Tensor& ids, const Tensor& table, const Tensor& out);

// table_gradient[ids[n] - first_row] += dout[n] for ids inside of the table. dout [N, H] fp32 or
// bf16; table_gradient [V, H] fp32. Deterministic: rows are added in the order of n.
void embedding_backward(const Context& ctx, const Tensor& dout, const Tensor& ids,
                        int64_t first_row, int64_t total_rows, const Tensor& table_gradient);

}  // namespace forja
