// SPDX-License-Identifier: Apache-2.0
#include "csrc/nn/hf_names.h"

#include <map>

#include "forja/base/error.h"

namespace forja {
namespace {

using Names = std::map<std::string, std::string>;

const Names& names_of(const ModelConfig& model) {
  static const Names gpt2 = {
      {"embedding", "transformer.wte"},
      {"position_embedding", "transformer.wpe"},
      {"final_norm", "transformer.ln_f"},
      {"head", "lm_head"},
      {"layer", "transformer.h"},
      {"attention_norm", "ln_1"},
      {"attention.qkv", "attn.c_attn"},
      {"attention.output", "attn.c_proj"},
      {"mlp_norm", "ln_2"},
      {"mlp.up", "mlp.c_fc"},
      {"mlp.down", "mlp.c_proj"},
  };
  static const Names llama = {
      {"embedding", "model.embed_tokens"},
      {"final_norm", "model.norm"},
      {"head", "lm_head"},
      {"layer", "model.layers"},
      {"attention_norm", "input_layernorm"},
      {"attention.output", "self_attn.o_proj"},
      {"attention.q_norm", "self_attn.q_norm"},
      {"attention.k_norm", "self_attn.k_norm"},
      {"mlp_norm", "post_attention_layernorm"},
      {"mlp.down", "mlp.down_proj"},
      {"position_embedding", "model.embed_positions"},
  };
  return model.model_type == "gpt2" ? gpt2 : llama;
}

const std::string& lookup(const ModelConfig& model, const std::string& part) {
  const Names& names = names_of(model);
  const auto found = names.find(part);
  FORJA_CHECK(found != names.end(), "no Hugging Face name of {} in {}", part, model.model_type);
  return found->second;
}

}  // namespace

std::string layer_name(int64_t layer) { return fmt::format("layers.{}", layer); }

std::string hf_model_name(const ModelConfig& model, const std::string& part) {
  return lookup(model, part);
}

std::string hf_layer_name(const ModelConfig& model, int64_t layer, const std::string& part) {
  return fmt::format("{}.{}.{}", lookup(model, "layer"), layer, lookup(model, part));
}

std::vector<HfSegment> hf_segments(const ModelConfig& model, int64_t layer, const std::string& part,
                                   int64_t outputs) {
  if (model.model_type == "gpt2") return {{hf_layer_name(model, layer, part), outputs, true}};
  const std::string prefix = fmt::format("{}.{}.", lookup(model, "layer"), layer);
  if (part == "attention.qkv") {
    return {{prefix + "self_attn.q_proj", model.query_size(), false},
            {prefix + "self_attn.k_proj", model.key_value_size(), false},
            {prefix + "self_attn.v_proj", model.key_value_size(), false}};
  }
  if (part == "mlp.up" && model.is_swiglu()) {
    return {{prefix + "mlp.gate_proj", model.intermediate_size, false},
            {prefix + "mlp.up_proj", model.intermediate_size, false}};
  }
  if (part == "mlp.up") return {{prefix + "mlp.up_proj", outputs, false}};
  return {{hf_layer_name(model, layer, part), outputs, false}};
}

}  // namespace forja
