// SPDX-License-Identifier: Apache-2.0
// Scaled dot-product attention, forward and backward, in memory linear in the sequence length.
// Source: Dao, "FlashAttention-2", 2023 (online softmax forward; backward from the log-sum-exp).
#pragma once

#include <cstdint>

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

struct AttentionOptions {
  bool causal = true;  // query i of a sequence sees keys up to i + (k_length - q_length)
  int64_t window = 0;  // above 0, only when causal: the last `window` of those, itself included
  float scale = 1.0f;  // of q k^T, before the softmax
};

// Legend: N query rows and M key rows of all sequences packed, H query heads, G key heads (H a
// multiple of G: head h reads key head h / (H / G)), D elements a head (at most 256), S sequences.
//   q [N, H, D], k [M, G, D], v [M, G, D], out [N, H, D]: fp32 or bf16; the last dim is contiguous,
//     the others may be strided (slices of a fused QKV).
//   sequences [S, 4] int32: q_begin, q_length, k_begin, k_length of each; no query sees a key of
//     another sequence. Query ranges do not overlap; rows in no sequence are left alone. One row a
//     sequence of a batch, a document of a packed row, or a prompt with its cache of keys.
//   lse [H, N] fp32: log-sum-exp of the scaled scores, kept for the backward pass; may be
//   undefined.
// A query that sees no key gets zeros (and lse = -inf).
void attention_forward(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& sequences, const Tensor& out, const Tensor& lse,
                       const AttentionOptions& options);

// dq, dk, dv (shapes as q, k, v; overwritten) from dout. Deterministic. out and lse are those of
// the forward pass. Here key ranges must not overlap either.
void attention_backward(const Context& ctx, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse,
                        const Tensor& sequences, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv, const AttentionOptions& options);

}  // namespace forja
