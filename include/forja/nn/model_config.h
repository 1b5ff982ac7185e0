// SPDX-License-Identifier: Apache-2.0
// One decoder, described by data. A model file uses Hugging Face's config names where one exists; a
// published config.json reads as one: what its model_type implies (Qwen2's biases, Qwen3's QK-norm,
// GPT-2's names) comes from a table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forja/base/config.h"
#include "forja/nn/lora_config.h"

namespace forja {

struct RopeConfig {
  std::string rope_type = "default";  // default, linear, llama3, yarn
  double rope_theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  double attention_factor = 0.0;                         // yarn; 0: 0.1 ln(factor) + 1
  int64_t original_max_position_embeddings = 0;          // llama3, yarn; 0: max_position_embeddings

  void visit(ConfigVisitor& v);
};

struct ModelConfig {
  std::string model_type = "llama";
  int64_t vocab_size = 32000;
  int64_t hidden_size = 768;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t num_key_value_heads = 0;  // 0: num_attention_heads
  int64_t head_dim = 0;             // 0: hidden_size / num_attention_heads
  int64_t intermediate_size =
      0;  // 0: 4 hidden_size for gelu, 8/3 hidden_size rounded up to 64 for swiglu
  int64_t max_position_embeddings = 2048;
  std::string norm = "rms_norm";  // rms_norm, layer_norm
  double norm_eps = 1e-5;
  std::string position = "rope";  // rope, learned
  RopeConfig rope;
  std::string mlp = "swiglu";   // swiglu, gelu_tanh, gelu_erf
  bool attention_bias = false;  // of q, k, v
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  int64_t sliding_window = 0;  // 0: none
  std::vector<std::string>
      layer_types;  // full_attention or sliding_attention for each layer; empty: all the same
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  double dropout = 0.0;
  LoraConfig lora;  // the adapters that a run adds: no part of a model file

  void visit(ConfigVisitor& v);

  // Sets what `model_type` implies; false for an unknown one.
  bool apply_model_type();

  int64_t window_of_layer(int64_t layer) const;
  int64_t query_size() const { return num_attention_heads * head_dim; }
  int64_t key_value_size() const { return num_key_value_heads * head_dim; }
  bool is_swiglu() const { return mlp == "swiglu"; }
  bool is_layer_norm() const { return norm == "layer_norm"; }
  bool has_rope() const { return position == "rope"; }
};

// Reads a model from a YAML file or a Hugging Face config.json.
ModelConfig read_model_config(const std::string& file);

}  // namespace forja
