// SPDX-License-Identifier: Apache-2.0
// One thread's share of attention.
#pragma once

#include "csrc/ops/cpu/attention_plan.h"
#include "forja/tensor/tensor.h"

namespace forja::cpu {

struct ForwardArguments {
  Tensor q, k, v, out, lse;
  AttentionOptions options;
};
struct BackwardArguments {
  Tensor dout, q, k, v, out, lse, dq, dk, dv;
  AttentionOptions options;
};

// Queries [begin, end) of the sequence, for all query heads of one key head.
void forward_chunk(const ForwardArguments& arguments, const Visibility& visible, int64_t key_head,
                   int64_t begin, int64_t end, uint8_t* scratch);

// The whole sequence, for one key head and its query heads.
void backward_head(const BackwardArguments& arguments, const Visibility& visible, int64_t key_head,
                   uint8_t* scratch);

}  // namespace forja::cpu
