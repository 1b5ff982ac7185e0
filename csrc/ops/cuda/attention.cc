// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/attention.h"

#include <algorithm>

#include "csrc/ops/cuda/arguments.h"
#include "kernels/attention/attention.h"

namespace forja::cuda {
namespace {

constexpr int64_t kMaxRows = int64_t(1) << 29;

kernels::AttentionProblem problem_of(const Context& ctx, const Tensor& q, const Tensor& k,
                                     const Tensor& sequences, const AttentionOptions& o) {
  FORJA_CHECK(q.size(0) < kMaxRows && k.size(0) < kMaxRows && sequences.size(0) < kMaxRows,
              "attention: q {}, k {} or sequences {} has 2^29 rows or more", q.to_string(),
              k.to_string(), sequences.to_string());
  return {.dtype = q.dtype,
          .head_size = int(q.size(2)),
          .num_heads = int(q.size(1)),
          .num_key_heads = int(k.size(1)),
          .num_queries = int(q.size(0)),
          .num_keys = int(k.size(0)),
          .sequences = static_cast<const int32_t*>(data(ctx, sequences)),
          .num_sequences = int(sequences.size(0)),
          .causal = o.causal,
          .window = int(std::min(o.window, kMaxRows)),
          .scale = o.scale};
}

kernels::AttentionRows rows_of(const Context& ctx, const Tensor& t) {
  return {data(ctx, t), t.stride(0), t.stride(1)};
}

int32_t* allocate_ints(const Context& ctx, int64_t count) {
  return static_cast<int32_t*>(allocate(*ctx.workspace, DType::i32, {count}).data);
}

kernels::AttentionTile* allocate_tiles(const Context& ctx, int64_t rows, int64_t num_sequences) {
  using kernels::AttentionTile;
  const int64_t count = kernels::attention_tiles(rows, num_sequences);
  return reinterpret_cast<AttentionTile*>(
      allocate_ints(ctx, count * int64_t(sizeof(AttentionTile)) / 4));
}

}  // namespace

void attention_forward(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& sequences, const Tensor& out, const Tensor& lse,
                       const AttentionOptions& options) {
  ArenaScope scope(*ctx.workspace);
  int32_t* counts = allocate_ints(ctx, sequences.size(0) + 1);
  kernels::AttentionTile* tiles = allocate_tiles(ctx, q.size(0), sequences.size(0));
  if (ctx.planning()) return;
  kernels::attention_forward({.problem = problem_of(ctx, q, k, sequences, options),
                              .q = rows_of(ctx, q),
                              .k = rows_of(ctx, k),
                              .v = rows_of(ctx, v),
                              .out = rows_of(ctx, out),
                              .lse = static_cast<float*>(data(ctx, lse)),
                              .lse_stride = lse.defined() ? lse.stride(0) : 0,
                              .counts = counts,
                              .tiles = tiles},
                             ctx.stream);
}

void attention_backward(const Context& ctx, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse,
                        const Tensor& sequences, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv, const AttentionOptions& options) {
  ArenaScope scope(*ctx.workspace);
  int32_t* counts = allocate_ints(ctx, sequences.size(0) + 1);
  kernels::AttentionTile* query_tiles = allocate_tiles(ctx, q.size(0), sequences.size(0));
  kernels::AttentionTile* key_tiles = allocate_tiles(ctx, k.size(0), sequences.size(0));
  const Tensor statistics = allocate(*ctx.workspace, DType::f32, {q.size(1), q.size(0), 2});
  if (ctx.planning()) return;
  kernels::attention_backward(
      {.problem = problem_of(ctx, q, k, sequences, options),
       .q = rows_of(ctx, q),
       .k = rows_of(ctx, k),
       .v = rows_of(ctx, v),
       .out = rows_of(ctx, out),
       .dout = rows_of(ctx, dout),
       .dq = rows_of(ctx, dq),
       .dk = rows_of(ctx, dk),
       .dv = rows_of(ctx, dv),
       .lse = static_cast<const float*>(data(ctx, lse)),
       .lse_stride = lse.stride(0),
       .counts = counts,
       .query_tiles = query_tiles,
       .key_tiles = key_tiles,
       .statistics = static_cast<kernels::AttentionStatistics*>(statistics.data)},
      ctx.stream);
}

}  // namespace forja::cuda
