// SPDX-License-Identifier: Apache-2.0
// Names and keys: llama.cpp's gguf-py/gguf/constants.py and tensor_mapping.py.
#include "forja/checkpoint/gguf_model.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "forja/base/error.h"
#include "forja/base/text.h"
#include "forja/checkpoint/hf_config.h"
#include "forja/nn/rope_tables.h"

namespace forja {
namespace {

std::string architecture(const ModelConfig& model) {
  return model.model_type == "mistral" ? "llama" : model.model_type;
}

// Of llama.cpp's architectures only this one turns neighbouring dims, and only this one reads
// rope_freqs.
bool is_llama(const ModelConfig& model) { return architecture(model) == "llama"; }

// Hugging Face's name of a module to GGUF's.
const std::map<std::string, std::string>& module_names() {
  static const std::map<std::string, std::string> names = {
      {"model.embed_tokens", "token_embd"},
      {"model.norm", "output_norm"},
      {"lm_head", "output"},
      {"input_layernorm", "attn_norm"},
      {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"},
      {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"},
      {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},
      {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},
      {"transformer.wte", "token_embd"},
      {"transformer.wpe", "position_embd"},
      {"transformer.ln_f", "output_norm"},
      {"ln_1", "attn_norm"},
      {"attn.c_attn", "attn_qkv"},
      {"attn.c_proj", "attn_output"},
      {"ln_2", "ffn_norm"},
      {"mlp.c_fc", "ffn_up"},
      {"mlp.c_proj", "ffn_down"},
  };
  return names;
}

// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight".
std::string gguf_name(const std::string& hf_name) {
  const size_t dot = hf_name.rfind('.');
  std::string module = hf_name.substr(0, dot), block;
  for (const std::string layers : {"model.layers.", "transformer.h."}) {
    if (!module.starts_with(layers)) continue;
    const size_t end = module.find('.', layers.size());
    block = "blk." + module.substr(layers.size(), end - layers.size()) + ".";
    module.erase(0, end + 1);
  }
  const auto found = module_names().find(module);
  FORJA_CHECK(found != module_names().end(), "no GGUF name of {}", hf_name);
  return block + found->second + hf_name.substr(dot);
}

bool is_rotary(const ModelConfig& model, const HfSegment& segment) {
  return is_llama(model) && (segment.name.find(".self_attn.q_proj.") != std::string::npos ||
                             segment.name.find(".self_attn.k_proj.") != std::string::npos);
}

// Matrices, but for the table of positions, which is added to activations.
GgufType type_of(const GgufTensor& tensor, GgufType wanted) {
  if (tensor.shape.size() < 2 || tensor.name.starts_with("position_embd.")) return GgufType::f32;
  const bool blocks = tensor.shape.back() % kQ8BlockElements == 0;
  return wanted == GgufType::q8_0 && !blocks ? GgufType::f16 : wanted;
}

int64_t original_context(const ModelConfig& model) {
  return model.rope.original_max_position_embeddings ? model.rope.original_max_position_embeddings
                                                     : model.max_position_embeddings;
}

void add_rope(const ModelConfig& model, const std::string& prefix, GgufMetadata* out) {
  const RopeConfig& rope = model.rope;
  const auto add = [&](const char* key, GgufValue value) {
    out->emplace_back(prefix + "rope." + key, std::move(value));
  };
  add("dimension_count", uint32_t(model.head_dim));
  add("freq_base", float(rope.rope_theta));
  if (rope.rope_type != "linear" && rope.rope_type != "yarn") return;
  add("scaling.type", rope.rope_type);
  add("scaling.factor", float(rope.factor));
  if (rope.rope_type == "linear") return;
  add("scaling.original_context_length", uint32_t(original_context(model)));
  add("scaling.yarn_beta_fast", float(rope.beta_fast));
  add("scaling.yarn_beta_slow", float(rope.beta_slow));
  // llama.cpp multiplies its own 0.1 ln(factor) + 1 by this.
  if (rope.attention_factor > 0.0)
    add("scaling.attn_factor", float(rope.attention_factor / (0.1 * std::log(rope.factor) + 1.0)));
}

// The format's number for what most matrices of a file are.
uint32_t file_type(GgufType type) {
  switch (type) {
    case GgufType::f32:
      return 0;
    case GgufType::f16:
      return 1;
    case GgufType::q8_0:
      return 7;
    case GgufType::bf16:
      return 32;
  }
  return 0;
}

GgufMetadata metadata_of(const ModelConfig& model, const std::string& name, GgufType type) {
  const std::string prefix = architecture(model) + ".";
  GgufMetadata out = {{"general.architecture", architecture(model)},
                      {"general.type", std::string("model")},
                      {"general.name", name},
                      {"general.file_type", file_type(type)},
                      {"general.quantization_version", uint32_t(2)}};
  const auto add = [&](const char* key, GgufValue value) {
    out.emplace_back(prefix + key, std::move(value));
  };
  add("vocab_size", uint32_t(model.vocab_size));
  add("context_length", uint32_t(model.max_position_embeddings));
  add("embedding_length", uint32_t(model.hidden_size));
  add("block_count", uint32_t(model.num_hidden_layers));
  add("feed_forward_length", uint32_t(model.intermediate_size));
  add("attention.head_count", uint32_t(model.num_attention_heads));
  add("attention.head_count_kv", uint32_t(model.num_key_value_heads));
  add(model.is_layer_norm() ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
      float(model.norm_eps));
  if (model.head_dim * model.num_attention_heads != model.hidden_size || !model.has_rope()) {
    add("attention.key_length", uint32_t(model.head_dim));
    add("attention.value_length", uint32_t(model.head_dim));
  }
  if (model.has_rope()) add_rope(model, prefix, &out);
  return out;
}

// What each pair of dims of a head is divided by; empty where the scaling needs no table.
std::vector<float> rope_divisors(const ModelConfig& model) {
  if (!model.has_rope() || model.rope.rope_type != "llama3") return {};
  const std::vector<double> scaled = rope_frequencies(model).inverse;
  std::vector<float> out;
  for (size_t i = 0; i < scaled.size(); ++i) {
    const double plain = std::pow(model.rope.rope_theta, -2.0 * double(i) / double(model.head_dim));
    out.push_back(float(plain / scaled[i]));
  }
  return out;
}

GgufType stored_type(const WeightSource& weights, const std::vector<ParameterSpec>& specs) {
  const bool bf16 = std::all_of(specs.begin(), specs.end(), [&](const ParameterSpec& spec) {
    return weights.dtype(spec) == DType::bf16;
  });
  return bf16 ? GgufType::bf16 : GgufType::f32;
}

void write_parameter(const ModelConfig& model, const ParameterSpec& spec, const float* values,
                     GgufWriter& writer) {
  std::vector<float> turned;
  for (const HfSegment& segment : spec.segments) {
    const int64_t size = segment.rows * spec.columns();
    if (is_rotary(model, segment)) {
      turned.resize(size_t(size));
      interleave_rotary_rows(values, segment.rows, spec.columns(), model.head_dim, turned.data());
      writer.write(turned.data());
    } else {
      writer.write(values);
    }
    values += size;
  }
}

}  // namespace

void check_gguf_model(const ModelConfig& model) {
  hf_config_json(model, DType::f32, {});  // throws for what no family has
  const std::string name = architecture(model);
  const auto refuse = [&](const std::string& what) {
    fail_input("llama.cpp's architecture {} has no {}: nothing there would compute this model",
               name, what);
  };
  const std::string& scaling = model.rope.rope_type;
  if (model.mlp == "gelu_erf") refuse("exact GELU (mlp: gelu_erf), only the one by tanh");
  if (model.has_rope() && scaling == "llama3" && !is_llama(model))
    refuse("rope_type llama3 (the tensor rope_freqs)");
  if (model.has_rope() && scaling == "yarn" && model.rope.factor < 1.0)
    refuse(fmt::format("yarn with a factor below 1, which is {}", model.rope.factor));
  if (name == "qwen3" && (model.attention_bias || model.attention_output_bias))
    refuse("biases in the attention (attention_bias)");
}

std::optional<int64_t> same_until(const ModelConfig& model) {
  std::optional<int64_t> shortest;
  for (int64_t i = 0; i < model.num_hidden_layers; ++i) {
    const int64_t window = model.window_of_layer(i);
    if (window > 0 && window < model.max_position_embeddings)
      shortest = std::min(shortest.value_or(window), window);
  }
  return shortest;
}

void interleave_rotary_rows(const float* in, int64_t rows, int64_t columns, int64_t head_dim,
                            float* out) {
  const int64_t half = head_dim / 2;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_dim, dim = row % head_dim;
    const int64_t from = head * head_dim + dim / 2 + (dim % 2) * half;
    std::copy_n(in + from * columns, columns, out + row * columns);
  }
}

GgufExport export_gguf(const WeightSource& weights, const ModelConfig& model,
                       const std::string& name, const GgufMetadata& tokenizer,
                       std::optional<GgufType> type, const std::string& path) {
  check_gguf_model(model);
  const std::vector<ParameterSpec> specs = parameters_of(model);
  GgufExport out;
  out.type = type.value_or(stored_type(weights, specs));
  std::vector<GgufTensor> tensors;
  const std::vector<float> divisors = rope_divisors(model);
  if (!divisors.empty())
    tensors.push_back({"rope_freqs.weight", GgufType::f32, {int64_t(divisors.size())}});
  for (const ParameterSpec& spec : specs) {
    out.num_parameters += spec.num_elements();
    for (const HfSegment& segment : spec.segments) {
      GgufTensor tensor{gguf_name(segment.name), GgufType::f32, spec.shape};
      tensor.shape[0] = segment.rows;
      tensor.type = type_of(tensor, out.type);
      if (out.type == GgufType::q8_0 && tensor.type == GgufType::f16)
        out.not_quantized.push_back(tensor.name);
      tensors.push_back(std::move(tensor));
    }
  }
  GgufMetadata metadata = metadata_of(model, name, out.type);
  metadata.insert(metadata.end(), tokenizer.begin(), tokenizer.end());
  GgufWriter writer(path, metadata, std::move(tensors));
  if (!divisors.empty()) writer.write(divisors.data());
  for (const ParameterSpec& spec : specs)
    write_parameter(model, spec, weights.read(spec).data(), writer);
  writer.commit();
  out.num_bytes = writer.bytes_written();
  out.extra_tensors = weights.names_beside(specs);
  return out;
}

}  // namespace forja
