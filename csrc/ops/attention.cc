// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/attention.h"

#include "csrc/ops/cpu/attention.h"
#include "csrc/ops/cuda/attention.h"
#include "csrc/ops/dispatch.h"

namespace forja {
namespace {

void check_heads(const char* op, const char* name, const Tensor& t, const Tensor& like) {
  check_float(op, name, t);
  check_rank(op, name, t, 3);
  check_dtype(op, name, t, like.dtype);
  check_last_dim_contiguous(op, name, t);
}

// q, k, v, their lookalikes (outputs and gradients), sequences and options.
void check_attention(const char* op, const Tensor& q, const Tensor& k, const Tensor& v,
                     const Tensor& sequences, const Tensor& out, const Tensor& lse,
                     const AttentionOptions& options) {
  check_heads(op, "q", q, q);
  check_heads(op, "k", k, q);
  check_same(op, "v", v, k);
  check_same(op, "out", out, q);
  FORJA_CHECK(q.size(2) == k.size(2), "{}: q {} and k {} have different head sizes", op,
              q.to_string(), k.to_string());
  FORJA_CHECK(k.size(1) > 0 && q.size(1) % k.size(1) == 0,
              "{}: the query heads of q {} must be a multiple of the key heads of k {}", op,
              q.to_string(), k.to_string());
  check_dtype(op, "sequences", sequences, DType::i32);
  FORJA_CHECK(sequences.rank == 2 && sequences.size(1) == 4,
              "{}: sequences must have shape [S, 4], found {}", op, sequences.to_string());
  check_contiguous(op, "sequences", sequences);
  if (lse.defined()) {
    check_dtype(op, "lse", lse, DType::f32);
    check_shape(op, "lse", lse, {q.size(1), q.size(0)});
    check_last_dim_contiguous(op, "lse", lse);
  }
  FORJA_CHECK(q.size(2) <= cpu::kMaxHeadSize, "{}: the head size of q {} is above {}", op,
              q.to_string(), cpu::kMaxHeadSize);
  FORJA_CHECK(options.window >= 0, "{}: the window {} is negative", op, options.window);
  FORJA_CHECK(options.causal || options.window == 0, "{}: a window needs causal attention", op);
}

void check_sequences(const char* op, const Tensor& sequences, int64_t num_queries,
                     int64_t num_keys) {
  const int32_t* s = sequences.ptr<int32_t>();
  for (int64_t i = 0; i < sequences.size(0); ++i, s += 4) {
    FORJA_CHECK(s[0] >= 0 && s[1] >= 0 && int64_t(s[0]) + s[1] <= num_queries && s[2] >= 0 &&
                    s[3] >= 0 && int64_t(s[2]) + s[3] <= num_keys,
                "{}: sequence {} (queries {}+{}, keys {}+{}) is outside {} queries and {} keys", op,
                i, s[0], s[1], s[2], s[3], num_queries, num_keys);
  }
}

}  // namespace

void attention_forward(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& sequences, const Tensor& out, const Tensor& lse,
                       const AttentionOptions& options) {
  constexpr const char* kOp = "attention_forward";
  check_attention(kOp, q, k, v, sequences, out, lse, options);
  if (!ctx.device.is_cpu())
    return cuda::attention_forward(ctx, q, k, v, sequences, out, lse, options);
  ArenaScope scope(*ctx.workspace);
  const cpu::AttentionScratch scratch =
      cpu::attention_scratch(*ctx.workspace, q, k, cpu::AttentionPass::forward);
  if (ctx.planning()) return;
  check_sequences(kOp, sequences, q.size(0), k.size(0));
  cpu::attention_forward(q, k, v, sequences, out, lse, options, scratch);
}

void attention_backward(const Context& ctx, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse,
                        const Tensor& sequences, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv, const AttentionOptions& options) {
  constexpr const char* kOp = "attention_backward";
  check_attention(kOp, q, k, v, sequences, out, lse, options);
  FORJA_CHECK(lse.defined(), "{}: lse is undefined", kOp);
  check_same(kOp, "dout", dout, q);
  check_same(kOp, "dq", dq, q);
  check_same(kOp, "dk", dk, k);
  check_same(kOp, "dv", dv, k);
  if (!ctx.device.is_cpu()) {
    return cuda::attention_backward(ctx, dout, q, k, v, out, lse, sequences, dq, dk, dv, options);
  }
  ArenaScope scope(*ctx.workspace);
  const cpu::AttentionScratch scratch =
      cpu::attention_scratch(*ctx.workspace, q, k, cpu::AttentionPass::backward);
  if (ctx.planning()) return;
  check_sequences(kOp, sequences, q.size(0), k.size(0));
  cpu::attention_backward(dout, q, k, v, out, lse, sequences, dq, dk, dv, options, scratch);
}

}  // namespace forja
