// SPDX-License-Identifier: Apache-2.0
// A small model and batch in any layout.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "forja/base/philox.h"
#include "forja/train/engine.h"

namespace forja {

constexpr int64_t kBatch = 8;

struct Layout {
  bool gpt2 = false;
  int tp = 1, pp = 1, dp = 1, zero = 0, dp_shard = 0, virtual_stages = 1;
  std::string schedule = "1f1b", recompute = "none";
  std::vector<int64_t> stage_layers;
  std::vector<std::string> layer_recompute;
  double dropout = 0.0;
  LoraConfig lora;
  std::vector<ParameterRule> parameters;
  PreferenceConfig preference;  // then each sequence is a pair
  Device device = {};
  DType compute_dtype = DType::f32;
  DType moment_dtype = DType::f32;
  bool stochastic = false;  // rounding of bf16 moments
  int64_t layers = 8;
  int64_t batch = kBatch;  // sequences, each a micro-batch
  int64_t length = 16;     // of a sequence
#ifdef __SANITIZE_THREAD__
  int steps = 2;  // each is some 50 times slower, and makes the same accesses
#else
  int steps = 10;
#endif

  int ranks() const { return tp * pp * dp; }
  std::string to_string() const {
    return fmt::format("{} tp {} pp {} dp {} zero {} shard {} {} x{} recompute {}",
                       gpt2 ? "gpt2" : "llama", tp, pp, dp, zero, dp_shard, schedule,
                       virtual_stages, recompute);
  }
};

inline EngineConfig config_of(const Layout& l) {
  EngineConfig c;
  c.device = l.device;
  c.compute_dtype = l.compute_dtype;
  ModelConfig& m = c.model;
  m.model_type = l.gpt2 ? "gpt2" : "llama";
  m.apply_model_type();
  m.vocab_size = l.gpt2 ? 101 : 97;
  m.hidden_size = 32;
  m.num_hidden_layers = l.layers;
  m.num_attention_heads = 4;
  m.num_key_value_heads = l.gpt2 ? 4 : 2;
  m.head_dim = 8;
  m.intermediate_size = 48;
  m.max_position_embeddings = l.length;
  m.tie_word_embeddings = l.gpt2;
  m.dropout = l.dropout;
  m.lora = l.lora;
  c.rules = {l.lora.is_on(), l.parameters};
  c.preference = l.preference;
  c.document_mask = l.preference.is_on();
  c.parallel.tp = l.tp;
  c.parallel.pp = l.pp;
  c.parallel.zero = l.zero;
  c.parallel.dp_shard = l.dp_shard;
  c.parallel.schedule = l.schedule;
  c.parallel.virtual_stages = l.virtual_stages;
  c.parallel.recompute = l.recompute;
  c.parallel.stage_layers = l.stage_layers;
  c.parallel.layer_recompute = l.layer_recompute;
  c.num_microbatches = l.batch / l.dp;
  c.sequence_length = l.length;
  c.bucket_bytes = 30000;  // two or three layers
  c.optimizer.betas = {0.9, 0.95};
  c.optimizer.state_dtype = dtype_name(l.moment_dtype);
  c.optimizer.stochastic_rounding = l.stochastic;
  c.seed = 7;
  return c;
}

inline Tensor fill(int64_t vocab, int64_t step, int64_t sample, const MicroBatch& b) {
  const int64_t length = b.tokens.size(0);
  for (int64_t i = 0; i <= length; ++i) {
    const auto token =
        int32_t(mix_key(uint64_t(step * kBatch + sample), uint64_t(i)) % uint64_t(vocab));
    if (i < length) b.tokens.ptr<int32_t>()[i] = token;
    if (i > 0) b.targets.ptr<int32_t>()[i - 1] = i % 5 == 0 ? -1 : token;
    if (i < length) b.positions.ptr<int32_t>()[i] = int32_t(i);
  }
  if (!b.document_mask) {
    const int32_t row[] = {0, int32_t(length), 0, int32_t(length)};
    std::copy(row, row + 4, b.sequences.ptr<int32_t>());
    return b.sequences;
  }
  const auto first = int32_t(length / 2 - 1), second = int32_t(length) - first;
  const int32_t rows[] = {0, first, 0, first, first, second, first, second};
  std::copy(rows, rows + 8, b.sequences.ptr<int32_t>());
  for (int32_t i = first; i < length; ++i) b.positions.ptr<int32_t>()[i] = i - first;
  return b.sequences.slice(0, 0, 2);
}

}  // namespace forja
