// SPDX-License-Identifier: Apache-2.0
// ops/embedding.h on a GPU; arguments are checked there, but not the ids: ids outside of the table
// count as another rank's.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja::cuda {

void embedding_forward(const Context& ctx, const Tensor& ids, const Tensor& table,
                       int64_t first_row, const Tensor& out);
void embedding_add(const Context& ctx, const Tensor& ids, const Tensor& table, const Tensor& out);
void embedding_backward(const Context& ctx, const Tensor& dout, const Tensor& ids,
                        int64_t first_row, const Tensor& table_gradient);

}  // namespace forja::cuda
