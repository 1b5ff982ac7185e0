// SPDX-License-Identifier: Apache-2.0
#include "forja/train/flops.h"

#include <algorithm>
#include <chrono>

#include "forja/ops/elementwise.h"
#include "forja/ops/matmul.h"

namespace forja {
namespace {

// Pairs (query, key) of a causal sequence of `length` with a window (0: none).
double causal_pairs(double length, double window) {
  if (window == 0 || window >= length) return length * (length + 1) / 2;
  return window * (window + 1) / 2 + (length - window) * window;
}

int64_t attention_parameters(const ModelConfig& m) {
  return m.hidden_size * (2 * m.query_size() + 2 * m.key_value_size());
}

int64_t mlp_parameters(const ModelConfig& m) {
  return (m.is_swiglu() ? 3 : 2) * m.hidden_size * m.intermediate_size;
}

// Matmul parameters of a layer that backward uses once more: all but those of the last projection,
// whose output nobody needs again.
double recomputed_parameters(const ModelConfig& m, Recompute recompute) {
  if (recompute != Recompute::full) return 0.0;
  return double(attention_parameters(m) + mlp_parameters(m) - m.hidden_size * m.intermediate_size);
}

}  // namespace

int64_t matmul_parameters(const ModelConfig& m) {
  return m.num_hidden_layers * (attention_parameters(m) + mlp_parameters(m)) +
         m.vocab_size * m.hidden_size;
}

FlopsCount training_flops(const ModelConfig& m, const ParallelConfig& parallel, int64_t tokens,
                          const Tensor& sequences, int64_t sequence_length) {
  const double matmul = 6.0 * double(matmul_parameters(m)) * double(tokens);
  FlopsCount flops{matmul, matmul, 0.0};
  // Two products forward and four backward, 2 D multiply-adds a pair and head each.
  const double per_pair = 12.0 * double(m.query_size());
  for (int64_t layer = 0; layer < m.num_hidden_layers; ++layer) {
    double pairs = 0.0;
    for (int64_t s = 0; s < sequences.size(0); ++s) {
      pairs += causal_pairs(sequences.ptr<int32_t>()[s * 4 + 1], double(m.window_of_layer(layer)));
    }
    flops.attended += per_pair * pairs;
    flops.full_attention += per_pair * double(tokens) * double(sequence_length);
    const Recompute recompute = parallel.recompute_of_layer(layer);
    if (recompute == Recompute::none) continue;
    flops.recomputed +=
        per_pair / 3 * pairs + 2.0 * recomputed_parameters(m, recompute) * double(tokens);
  }
  return flops;
}

double measure_matmul_flops(const Context& ctx, DType dtype) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRows = 1024, kColumns = 4096, kInner = 1024;
  Arena arena("matmul rate", ctx.device,
              (kRows * kColumns + kColumns * kInner + kRows * kInner) * 4 + (int64_t(64) << 20));
  const Tensor a = allocate(arena, dtype, {kRows, kInner}),
               b = allocate(arena, dtype, {kColumns, kInner});
  const Tensor c = allocate(arena, dtype, {kRows, kColumns});
  fill_value(ctx, a, 0.5f);
  fill_value(ctx, b, 0.25f);
  Context measuring = ctx;
  measuring.workspace = &arena;
  synchronize(ctx);
  double best_s = 1e9;
  const auto start = Clock::now();
  while (std::chrono::duration<double>(Clock::now() - start).count() < 0.2) {
    const auto begin = Clock::now();
    matmul(measuring, a, b.transposed(), c);
    synchronize(ctx);
    best_s = std::min(best_s, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return 2.0 * double(kRows) * double(kColumns) * double(kInner) / best_s;
}

}  // namespace forja
