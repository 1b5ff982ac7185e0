// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/hf_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

Json id_or_null(const std::optional<int32_t>& id) { return id ? Json(*id) : Json(nullptr); }

const char* architecture(const std::string& model_type) {
  if (model_type == "gpt2") return "GPT2LMHeadModel";
  if (model_type == "llama") return "LlamaForCausalLM";
  if (model_type == "mistral") return "MistralForCausalLM";
  if (model_type == "qwen2") return "Qwen2ForCausalLM";
  if (model_type == "qwen3") return "Qwen3ForCausalLM";
  fail_input("no Hugging Face architecture of model_type {}", model_type);
}

// Only what the scaling reads, defaults resolved.
RopeConfig relevant(const ModelConfig& model) {
  const RopeConfig& from = model.rope;
  RopeConfig rope;
  if (!model.has_rope()) return rope;
  rope.rope_type = from.rope_type;
  rope.rope_theta = from.rope_theta;
  if (rope.rope_type == "default") return rope;
  rope.factor = from.factor;
  if (rope.rope_type == "linear") return rope;
  rope.original_max_position_embeddings = from.original_max_position_embeddings
                                              ? from.original_max_position_embeddings
                                              : model.max_position_embeddings;
  if (rope.rope_type == "llama3") {
    rope.low_freq_factor = from.low_freq_factor;
    rope.high_freq_factor = from.high_freq_factor;
  } else {
    rope.beta_fast = from.beta_fast;
    rope.beta_slow = from.beta_slow;
    rope.attention_factor = from.attention_factor;
  }
  return rope;
}

// transformers 5 reads rope_parameters, 4.4x rope_theta and rope_scaling.
void add_rope(Json& json, const RopeConfig& rope) {
  Json scaling = {{"rope_type", rope.rope_type}};
  if (rope.rope_type != "default") scaling["factor"] = rope.factor;
  if (rope.rope_type == "llama3") {
    scaling["low_freq_factor"] = rope.low_freq_factor;
    scaling["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.rope_type == "yarn") {
    scaling["beta_fast"] = rope.beta_fast;
    scaling["beta_slow"] = rope.beta_slow;
    if (rope.attention_factor > 0.0) scaling["attention_factor"] = rope.attention_factor;
  }
  if (rope.original_max_position_embeddings > 0)
    scaling["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  json["rope_theta"] = rope.rope_theta;
  json["rope_scaling"] = rope.rope_type == "default" ? Json(nullptr) : scaling;
  scaling["rope_theta"] = rope.rope_theta;
  json["rope_parameters"] = scaling;
}

void add_windows(Json& json, const ModelConfig& m) {
  if (m.model_type == "mistral")
    json["sliding_window"] = m.window_of_layer(0) > 0 ? Json(m.sliding_window) : Json(nullptr);
  if (m.model_type != "qwen2" && m.model_type != "qwen3") return;
  std::vector<std::string> types;
  for (int64_t i = 0; i < m.num_hidden_layers; ++i)
    types.push_back(m.window_of_layer(i) > 0 ? "sliding_attention" : "full_attention");
  const auto first = std::find(types.begin(), types.end(), "sliding_attention");
  const bool used = first != types.end();
  json["use_sliding_window"] = used;
  json["sliding_window"] = used ? Json(m.sliding_window) : Json(nullptr);
  json["max_window_layers"] = first - types.begin();  // the full ones, which come first in 4.4x
  json["layer_types"] = types;
}

Json gpt2_keys(const ModelConfig& m) {
  return {{"vocab_size", m.vocab_size},
          {"n_embd", m.hidden_size},
          {"n_layer", m.num_hidden_layers},
          {"n_head", m.num_attention_heads},
          {"n_inner", m.intermediate_size},
          {"n_positions", m.max_position_embeddings},
          {"n_ctx", m.max_position_embeddings},
          {"activation_function", m.mlp == "gelu_erf" ? "gelu" : "gelu_new"},
          {"layer_norm_epsilon", m.norm_eps},
          {"embd_pdrop", m.dropout},
          {"resid_pdrop", m.dropout},
          {"attn_pdrop", 0.0},
          {"scale_attn_weights", true}};
}

Json llama_keys(const ModelConfig& m) {
  Json json = {{"vocab_size", m.vocab_size},
               {"hidden_size", m.hidden_size},
               {"num_hidden_layers", m.num_hidden_layers},
               {"num_attention_heads", m.num_attention_heads},
               {"num_key_value_heads", m.num_key_value_heads},
               {"intermediate_size", m.intermediate_size},
               {"max_position_embeddings", m.max_position_embeddings},
               {"hidden_act", "silu"},
               {"rms_norm_eps", m.norm_eps},
               {"attention_dropout", 0.0}};
  // Qwen2 had no such key in 4.4x.
  if (m.model_type != "qwen2" || m.head_dim * m.num_attention_heads != m.hidden_size)
    json["head_dim"] = m.head_dim;
  if (m.model_type == "llama" || m.model_type == "qwen3") json["attention_bias"] = m.attention_bias;
  if (m.model_type == "llama") json["mlp_bias"] = m.mlp_bias;
  add_windows(json, m);
  add_rope(json, relevant(m));
  return json;
}

// Equal for models that compute the same.
std::string canonical(ModelConfig m) {
  m.rope = relevant(m);
  m.dropout = 0.0;
  std::vector<std::string> types;
  for (int64_t i = 0; i < m.num_hidden_layers; ++i)
    types.push_back(m.window_of_layer(i) > 0 ? "sliding_attention" : "full_attention");
  m.layer_types = types;
  const bool windows = std::count(m.layer_types.begin(), m.layer_types.end(), "sliding_attention");
  if (!windows) m.sliding_window = 0;
  return print_config([&](ConfigVisitor& v) { m.visit(v); });
}

void check_read_back(const ModelConfig& model, const std::string& text) {
  ModelConfig read;
  read_config_text(text, "config.json", {}, [&](ConfigVisitor& v) { read.visit(v); });
  if (canonical(model) == canonical(read)) return;
  const std::vector<std::string> wanted = split(canonical(model), '\n'),
                                 found = split(canonical(read), '\n');
  std::vector<std::string> lost;
  for (const std::string& line : wanted) {
    const std::string key(trim(line.substr(0, line.find('#'))));
    if (std::find(found.begin(), found.end(), line) == found.end()) lost.push_back(key);
  }
  fail_input(
      "Hugging Face's models of model_type {} have no {}: nothing there would compute this "
      "model",
      model.model_type, lost.empty() ? "such layer_types" : join(lost, ", "));
}

}  // namespace

std::string hf_config_json(const ModelConfig& model, DType dtype, const SpecialIds& ids) {
  const char* dtype_text = dtype == DType::bf16 ? "bfloat16" : "float32";
  Json json = {{"architectures", {architecture(model.model_type)}},
               {"model_type", model.model_type},
               {"dtype", dtype_text},
               {"torch_dtype", dtype_text}};
  json.update(model.model_type == "gpt2" ? gpt2_keys(model) : llama_keys(model));
  json["tie_word_embeddings"] = model.tie_word_embeddings;
  json["initializer_range"] = model.initializer_range;
  json["bos_token_id"] = id_or_null(ids.bos);
  json["eos_token_id"] = id_or_null(ids.eos);
  json["pad_token_id"] = nullptr;
  json["use_cache"] = true;
  const std::string text = json.dump(2) + "\n";
  check_read_back(model, text);
  return text;
}

std::string hf_generation_config_json(const SpecialIds& ids) {
  Json json = {{"_from_model_config", true}};
  if (ids.bos) json["bos_token_id"] = *ids.bos;
  if (ids.eos) json["eos_token_id"] = *ids.eos;
  return json.dump(2) + "\n";
}

}  // namespace forja
