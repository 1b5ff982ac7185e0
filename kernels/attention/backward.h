// SPDX-License-Identifier: Apache-2.0
// The two halves of the backward pass; the statistics must be there. See backward.cu.
#pragma once

#include "kernels/attention/attention.h"

namespace forja::kernels {

void attention_backward_keys(const AttentionBackward& arguments, KernelStream stream);
void attention_backward_queries(const AttentionBackward& arguments, KernelStream stream);

}  // namespace forja::kernels
