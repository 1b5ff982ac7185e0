// SPDX-License-Identifier: Apache-2.0
// The arithmetic of reductions.
#pragma once

#include <cstdint>
#include <vector>

#include "forja/comm/communicator.h"

namespace forja {

// f32, f64, bf16, i32, i64.
bool is_reducible(DType dtype);

// out[i] = op over r of parts[r][i], i < n, in the order of `parts`: the bits depend on nothing
// else. bf16 is combined in fp32 and rounded once, to nearest even. out may be one of the parts.
void reduce_parts(DType dtype, ReduceOp op, const std::vector<const void*>& parts, void* out,
                  int64_t n);

}  // namespace forja
