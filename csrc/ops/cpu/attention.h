// SPDX-License-Identifier: Apache-2.0
// CPU versions of ops/attention.h; arguments are checked there.
#pragma once

#include "forja/device/arena.h"
#include "forja/ops/attention.h"

namespace forja::cpu {

inline constexpr int64_t kMaxHeadSize = 256;

enum class AttentionPass { forward, backward };

struct AttentionScratch {
  uint8_t* data = nullptr;
  int64_t bytes_per_thread = 0;
};

// Depends on shapes and the number of threads only.
AttentionScratch attention_scratch(Arena& workspace, const Tensor& q, const Tensor& k,
                                   AttentionPass pass);

void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& sequences,
                       const Tensor& out, const Tensor& lse, const AttentionOptions& options,
                       const AttentionScratch& scratch);
void attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& out, const Tensor& lse, const Tensor& sequences,
                        const Tensor& dq, const Tensor& dk, const Tensor& dv,
                        const AttentionOptions& options, const AttentionScratch& scratch);

}  // namespace forja::cpu
