// SPDX-License-Identifier: Apache-2.0
// ops/rope.h on a GPU; arguments are checked there.
#pragma once

#include "forja/ops/rope.h"

namespace forja::cuda {

void rope(const Context& ctx, const Tensor& x, const Tensor& positions, const Tensor& cos,
          const Tensor& sin, RopeDirection direction);

}  // namespace forja::cuda
