// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding, in place. Source: Su et al., "RoFormer", 2021; pairs (i, i + D/2) as
// Hugging Face has them.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

enum class RopeDirection { forward, backward };  // backward rotates by the negative angle

// Rotates x [N, H, D] (fp32 or bf16; last dim contiguous, others may be strided) by the angles of
// its row's position.
//   positions [N] int32. cos, sin [P, D/2] fp32: tables for positions 0..P-1 (any attention factor
//   is in them). Throws when a position is outside of the tables; on a GPU, which cannot, its row
//   becomes NaN.
void rope(const Context& ctx, const Tensor& x, const Tensor& positions, const Tensor& cos,
          const Tensor& sin, RopeDirection direction);

}  // namespace forja
