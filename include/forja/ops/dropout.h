// SPDX-License-Identifier: Apache-2.0
// Dropout whose mask is a pure function of (key, global element): recomputed in the backward pass,
// never stored, and the same in every layout.
#pragma once

#include <cstdint>

#include "forja/base/element_map.h"
#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

// y = x * keep / (1 - probability), keep from philox(key, element / 4) word element % 4.
//   x, y contiguous, fp32 or bf16; y may be x. `elements`: where those of x lie in the full tensor.
//   The backward pass is the same call on the gradient.
void dropout(const Context& ctx, const Tensor& x, const Tensor& y, float probability, uint64_t key,
             const ElementMap& elements);

}  // namespace forja
