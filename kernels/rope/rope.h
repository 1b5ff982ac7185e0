// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding, in place. Pointers are the device's; everything is asynchronous.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

struct RopeArguments {
  void* x = nullptr;  // [tokens, heads, 2 half], pairs (i, i + half); strides in elements
  DType dtype = DType::f32;
  int64_t tokens = 0;
  int heads = 0, half = 0;
  int64_t token_stride = 0, head_stride = 0;
  const int32_t* positions = nullptr;          // [tokens]
  const float *cos = nullptr, *sin = nullptr;  // [num_positions, half]
  int64_t num_positions = 0, cos_stride = 0, sin_stride = 0;
  bool backward = false;  // by the negative angle
};

// A position outside of the tables gives NaNs: a kernel cannot throw.
void rope(const RopeArguments& arguments, KernelStream stream);

}  // namespace forja::kernels
