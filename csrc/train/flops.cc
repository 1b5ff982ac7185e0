// SPDX-License-Identifier: Apache-2.0
#include "forja/train/flops.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "forja/device/gpu_runtime.h"
#include "forja/nn/decoder.h"
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

double matmul_flops_of_token(const ModelConfig& model, const ParameterRules& rules) {
  ParameterStore store({.use = StoreUse::inference, .rules = rules});
  const Decoder decoder(store, model, 1);
  double flops = 0.0;
  for (const auto& p : store.all()) {
    const ParameterSpec& spec = p->spec;
    const bool looked_up = spec.name == "position_embedding.weight" ||
                           (spec.name == "embedding.weight" && !model.tie_word_embeddings);
    if (spec.shape.size() == 2 && !looked_up)
      flops += (spec.trainable ? 6.0 : 4.0) * double(spec.num_elements());
  }
  return flops;
}

FlopsCount training_flops(const ModelConfig& m, const ParallelConfig& parallel,
                          double matmul_flops_of_token, int64_t tokens, const Tensor& sequences,
                          int64_t sequence_length) {
  const double matmul = matmul_flops_of_token * double(tokens);
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

namespace {

// Dense TFLOP/s of NVIDIA's datasheets. The first that fits counts: all words are in the name.
struct Datasheet {
  std::vector<const char*> words;
  double bf16, fp32;  // fp32 without TF32
};
const Datasheet kDatasheets[] = {
    {{"A100"}, 312, 19.5},      {{"H100", "PCIe"}, 756, 51}, {{"H100", "NVL"}, 835, 60},
    {{"H200", "NVL"}, 835, 60}, {{"GH200"}, 989, 67},        {{"H200"}, 989, 67},
    {{"H100"}, 989, 67},
};

}  // namespace

std::optional<PeakFlops> datasheet_peak(const std::string& gpu_name, DType dtype) {
  const auto has = [&](const char* word) { return gpu_name.find(word) != std::string::npos; };
  if (has("MIG")) return std::nullopt;
  for (const Datasheet& d : kDatasheets) {
    if (!std::all_of(d.words.begin(), d.words.end(), has)) continue;
    const double tflops = dtype == DType::bf16 ? d.bf16 : d.fp32;
    return PeakFlops{tflops * 1e12, fmt::format("datasheet: {} TFLOP/s, dense {}, of {}", tflops,
                                                dtype_name(dtype), gpu_name)};
  }
  return std::nullopt;
}

PeakFlops peak_flops(const Context& ctx, DType dtype, double measured) {
  if (!ctx.device.is_cpu())
    if (const auto peak = datasheet_peak(gpu_name(ctx.device), dtype)) return *peak;
  return {measured, "measured: a large matrix product of this run's own"};
}

double measure_matmul_flops(const Context& ctx, DType dtype) {
  using Clock = std::chrono::steady_clock;
  // A GPU needs much more to do, or starting it is what is measured.
  const int64_t more = ctx.device.is_cpu() ? 1 : 8;
  const int64_t rows = 1024 * more, columns = 4096 * more, inner = 1024 * more;
  Arena arena("matmul rate", ctx.device,
              (rows * columns + columns * inner + rows * inner) * 4 + (int64_t(64) << 20));
  const Tensor a = allocate(arena, dtype, {rows, inner}),
               b = allocate(arena, dtype, {columns, inner});
  const Tensor c = allocate(arena, dtype, {rows, columns});
  // Of numbers that are all alike a GPU, which needs less power for them, makes more a second.
  for (const Tensor& x : {a, b}) {
    ArenaScope scope(arena);
    const Tensor values = allocate(arena, DType::f32, {x.size(0), x.size(1)});
    fill_normal(ctx, values, 1, 0, 0.0f, 1.0f);
    convert(ctx, values, x);
  }
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
  return 2.0 * double(rows) * double(columns) * double(inner) / best_s;
}

}  // namespace forja
