// SPDX-License-Identifier: Apache-2.0
// What the CUDA half of every op shares.
#pragma once

#include "forja/base/error.h"
#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja::cuda {

// The memory of `t`, which must be on the context's device; nullptr for an undefined tensor.
inline void* data(const Context& ctx, const Tensor& t) {
  if (!t.defined()) return nullptr;
  FORJA_CHECK(t.device == ctx.device, "{} is not on the device of the op", t.to_string());
  return t.data;
}

}  // namespace forja::cuda
