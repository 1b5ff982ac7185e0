// SPDX-License-Identifier: Apache-2.0
// Matrix multiplication by oneDNN. Its API differs between 2.x (Debian 12) and 3.x: only onednn.cc
// knows.
#pragma once

#include "forja/ops/matmul.h"

namespace forja::cpu {

// As matmul() of ops/matmul.h (arguments are checked there; no size is 0), scratch from
// ctx.workspace.
void onednn_matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                   MatmulOutput output, const Tensor& bias);

}  // namespace forja::cpu
