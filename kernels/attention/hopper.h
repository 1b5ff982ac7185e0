// SPDX-License-Identifier: Apache-2.0
// Attention by TMA and wgmma, bf16, on compute capability 9.0 alone. The same contract as
// attention.h where hopper_takes() says so.
#pragma once

#include "kernels/attention/attention.h"

namespace forja::kernels {

bool hopper_takes(const AttentionForward& arguments);
bool hopper_takes(const AttentionBackward& arguments);

void attention_forward_hopper(const AttentionForward& arguments, KernelStream stream);
// The two halves of the backward pass; the statistics must be there.
void attention_backward_keys_hopper(const AttentionBackward& arguments, KernelStream stream);
void attention_backward_queries_hopper(const AttentionBackward& arguments, KernelStream stream);

}  // namespace forja::kernels
