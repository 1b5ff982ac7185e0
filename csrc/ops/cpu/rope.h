// SPDX-License-Identifier: Apache-2.0
// CPU version of ops/rope.h; arguments are checked there.
#pragma once

#include "forja/ops/rope.h"

namespace forja::cpu {

void rope(const Tensor& x, const Tensor& positions, const Tensor& cos, const Tensor& sin,
          RopeDirection direction);

}  // namespace forja::cpu
