// SPDX-License-Identifier: Apache-2.0
// CPU version of ops/dropout.h; arguments are checked there.
#pragma once

#include <cstdint>

#include "forja/base/element_map.h"
#include "forja/tensor/tensor.h"

namespace forja::cpu {

void dropout(const Tensor& x, const Tensor& y, float probability, uint64_t key,
             const ElementMap& elements);

}  // namespace forja::cpu
