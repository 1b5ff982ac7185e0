// SPDX-License-Identifier: Apache-2.0
// CPU version of ops/matmul.h; arguments are checked there. Takes scratch and returns early in a
// planning run.
#pragma once

#include "forja/ops/matmul.h"

namespace forja::cpu {

void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
            MatmulOutput output, const Tensor& bias);

}  // namespace forja::cpu
