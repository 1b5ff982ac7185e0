// SPDX-License-Identifier: Apache-2.0
// CPU versions of ops/embedding.h; arguments are checked there.
#pragma once

#include "forja/tensor/tensor.h"

namespace forja::cpu {

void embedding_forward(const Tensor& ids, const Tensor& table, int64_t first_row,
                       const Tensor& out);
void embedding_add(const Tensor& ids, const Tensor& table, const Tensor& out);
void embedding_backward(const Tensor& dout, const Tensor& ids, int64_t first_row,
                        const Tensor& table_gradient);

}  // namespace forja::cpu
