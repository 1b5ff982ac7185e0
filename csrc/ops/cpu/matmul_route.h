// SPDX-License-Identifier: Apache-2.0
// Which implementation of a matrix multiplication is used; a pure function of machine, dtype and
// shape, so that a run repeats bit by bit.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"

namespace forja::cpu {

enum class MatmulRoute {
  onednn,
  own,  // gemm.h: fp32 arithmetic
};

struct MatmulMachine {
  bool x86;
  // Products of bf16 pairs run faster than fp32 multiply-adds: AMX, or VDPBF16PS at full rate.
  bool fast_bf16;
};

MatmulMachine this_machine();
MatmulRoute matmul_route(const MatmulMachine& machine, DType dtype, int64_t m);

}  // namespace forja::cpu
