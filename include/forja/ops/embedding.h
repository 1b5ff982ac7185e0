// SPDX-License-Identifier: Apache-2.0
// Rows of a table by index, both ways.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

// out[n] = table[ids[n]] (+ position_table[positions[n]] when defined).
//   ids, positions [N] int32; table [V, H], position_table [P, H], out [N, H]: fp32 or bf16, all
//   the same.
// Throws when an id is outside the table.
void embedding_forward(const Context& ctx, const Tensor& ids, const Tensor& table,
                       const Tensor& positions, const Tensor& position_table, const Tensor& out);

// table_gradient[ids[n]] += dout[n]. dout [N, H] fp32 or bf16; table_gradient [V, H] fp32.
// Deterministic: rows are added in the order of n.
void embedding_backward(const Context& ctx, const Tensor& dout, const Tensor& ids,
                        const Tensor& table_gradient);

}  // namespace forja
