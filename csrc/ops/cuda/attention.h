// SPDX-License-Identifier: Apache-2.0
// ops/attention.h on a GPU; arguments are checked there. `sequences` is not: it is on the device,
// where a sequence out of range ends the kernel.
#pragma once

#include "forja/ops/attention.h"

namespace forja::cuda {

void attention_forward(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& sequences, const Tensor& out, const Tensor& lse,
                       const AttentionOptions& options);
void attention_backward(const Context& ctx, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse,
                        const Tensor& sequences, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv, const AttentionOptions& options);

}  // namespace forja::cuda
