// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/model_config.h"

#include "forja/base/error.h"

namespace forja {
namespace {
constexpr int64_t kMaxHeadDim = 256;  // of the attention kernels

// Beyond any model there is: what is larger is a slip of the finger.
Check<int64_t> size_from(int64_t low) { return between(low, int64_t(1) << 24); }
Check<int64_t> layer_count() { return between(int64_t(1), int64_t(10000)); }
}  // namespace

void RopeConfig::visit(ConfigVisitor& v) {
  // "type" is the name that older files use.
  const bool old_name = v.reading() && !v.has("rope_type") && v.has("type");
  v.field(old_name ? "type" : "rope_type", rope_type, "Scaling of rotary positions.",
          one_of({"default", "linear", "llama3", "yarn"}));
  v.field("rope_theta", rope_theta, "Base of the rotary frequencies.", positive<double>());
  v.field("factor", factor, "How many times the context is extended.", positive<double>());
  v.field("low_freq_factor", low_freq_factor, "llama3: longest wavelengths are scaled.",
          positive<double>());
  v.field("high_freq_factor", high_freq_factor, "llama3: shortest wavelengths are kept.",
          positive<double>());
  v.field("beta_fast", beta_fast, "yarn: rotations from which dims are kept.", positive<double>());
  v.field("beta_slow", beta_slow, "yarn: rotations to which dims are interpolated.",
          positive<double>());
  v.field("attention_factor", attention_factor,
          "yarn: scale of cos and sin; 0 means 0.1 ln(factor) + 1.", not_negative<double>());
  v.field("original_max_position_embeddings", original_max_position_embeddings,
          "Context length before scaling; 0 means max_position_embeddings.",
          not_negative<int64_t>());
  if (v.reading() && rope_type == "llama3" && high_freq_factor <= low_freq_factor) {
    v.fault("high_freq_factor",
            fmt::format("{} must be above low_freq_factor {}", high_freq_factor, low_freq_factor));
  }
}

bool ModelConfig::apply_model_type() {
  if (model_type == "gpt2") {
    norm = "layer_norm";
    position = "learned";
    mlp = "gelu_tanh";
    attention_bias = attention_output_bias = mlp_bias = true;
    tie_word_embeddings = true;
    return true;
  }
  if (model_type == "qwen2") attention_bias = true;
  if (model_type == "qwen3") qk_norm = true;
  if (model_type == "mistral" || model_type == "qwen2" || model_type == "qwen3") norm_eps = 1e-6;
  return model_type == "llama" || model_type == "mistral" || model_type == "qwen2" ||
         model_type == "qwen3";
}

namespace {

// The activation of a published config.json.
void read_activation(ConfigVisitor& v, ModelConfig& m, const char* key) {
  if (!v.reading() || !v.has(key)) return;
  std::string name;
  v.field(key, name, "Activation, in Hugging Face's words.",
          one_of({"silu", "gelu", "gelu_new", "gelu_pytorch_tanh"}));
  const bool gelu = m.model_type == "gpt2";
  if (gelu == (name == "silu"))
    v.fault(key, fmt::format("\"{}\" does not go with model_type {}", name, m.model_type));
  if (gelu) m.mlp = name == "gelu" ? "gelu_erf" : "gelu_tanh";
}

void visit_rope(ConfigVisitor& v, ModelConfig& m) {
  // Published files: "rope_theta" beside "rope_scaling" (older), or everything in
  // "rope_parameters".
  if (!v.reading()) return v.section("rope", m.rope, "Rotary positions.");
  if (v.has("rope_theta"))
    v.field("rope_theta", m.rope.rope_theta, "Base of the rotary frequencies.", positive<double>());
  for (const char* key : {"rope", "rope_scaling", "rope_parameters"}) {
    if (v.has(key)) v.section(key, m.rope, "Rotary positions.");
  }
  if (!v.has("rope") && !v.has("rope_scaling") && !v.has("rope_parameters"))
    v.section("rope", m.rope, "");
}

// Each size may be large; a model of all of them together overflows what counts its parameters.
void check_total(ConfigVisitor& v, const ModelConfig& m) {
  constexpr double kMostParameters = 1e15;
  const double hidden = double(m.hidden_size),
               per_layer = hidden * (2.0 * double(m.query_size() + m.key_value_size()) +
                                     3.0 * double(m.intermediate_size)),
               tables = 2.0 * hidden * double(m.vocab_size + m.max_position_embeddings),
               total = per_layer * double(m.num_hidden_layers) + tables;
  if (total > kMostParameters) {
    v.fault(
        "hidden_size",
        fmt::format("{} x {} layers, a vocabulary of {} and an MLP of {} make {:.1e} parameters, "
                    "at most {:.0e} can be",
                    m.hidden_size, m.num_hidden_layers, m.vocab_size, m.intermediate_size, total,
                    kMostParameters));
  }
}

void check_model(ConfigVisitor& v, ModelConfig& m) {
  if (m.num_key_value_heads == 0) m.num_key_value_heads = m.num_attention_heads;
  if (m.head_dim == 0) {
    if (m.hidden_size % m.num_attention_heads != 0) {
      v.fault("num_attention_heads", fmt::format("hidden_size {} is not divisible by {} heads",
                                                 m.hidden_size, m.num_attention_heads));
    }
    m.head_dim = m.hidden_size / m.num_attention_heads;
  }
  if (m.head_dim > kMaxHeadDim)
    v.fault("head_dim", fmt::format("heads of {} at most, found {}", kMaxHeadDim, m.head_dim));
  if (m.intermediate_size == 0) {
    m.intermediate_size =
        m.is_swiglu() ? (m.hidden_size * 8 / 3 + 63) / 64 * 64 : 4 * m.hidden_size;
  }
  if (m.num_attention_heads % m.num_key_value_heads != 0) {
    v.fault("num_key_value_heads", fmt::format("{} heads are not divisible by {} key-value heads",
                                               m.num_attention_heads, m.num_key_value_heads));
  }
  if (m.has_rope() && m.head_dim % 2 != 0)
    v.fault("head_dim", fmt::format("rotary positions need an even one, found {}", m.head_dim));
  if (!m.layer_types.empty() && int64_t(m.layer_types.size()) != m.num_hidden_layers) {
    v.fault("layer_types",
            fmt::format("{} entries for {} layers", m.layer_types.size(), m.num_hidden_layers));
  }
  for (const std::string& type : m.layer_types) {
    if (type != "full_attention" && type != "sliding_attention") {
      v.fault("layer_types",
              fmt::format("expected full_attention or sliding_attention, found \"{}\"", type));
    }
  }
  check_total(v, m);
}

}  // namespace

void ModelConfig::visit(ConfigVisitor& v) {
  v.field("model_type", model_type, "Family; sets what it implies before the other keys are read.");
  const bool published = v.reading() && (v.has("architectures") || v.has("transformers_version"));
  if (published) v.ignore_unknown();
  if (v.reading() && !apply_model_type()) {
    v.fault("model_type",
            fmt::format("expected one of gpt2, llama, mistral, qwen2, qwen3, found \"{}\"",
                        model_type));
  }
  // GPT-2's published names, and Hugging Face's two names of the norm's epsilon.
  auto name = [&](const char* ours, std::initializer_list<const char*> others) {
    if (!v.reading() || v.has(ours)) return ours;
    for (const char* other : others)
      if (v.has(other)) return other;
    return ours;
  };
  v.field("vocab_size", vocab_size, "Number of tokens.", size_from(1));
  v.field(name("hidden_size", {"n_embd"}), hidden_size, "Width of the residual stream.",
          size_from(1));
  v.field(name("num_hidden_layers", {"n_layer"}), num_hidden_layers, "Number of decoder layers.",
          layer_count());
  v.field(name("num_attention_heads", {"n_head"}), num_attention_heads, "Query heads.",
          size_from(1));
  v.field("num_key_value_heads", num_key_value_heads,
          "Key-value heads; 0 means as many as query heads.", size_from(0));
  v.field("head_dim", head_dim, "Size of a head; 0 means hidden_size / num_attention_heads.",
          size_from(0));
  v.field(name("intermediate_size", {"n_inner"}), intermediate_size,
          "Width of the MLP; 0 means 4 hidden_size (gelu) or 8/3 hidden_size rounded up to 64 "
          "(swiglu).",
          size_from(0));
  v.field(name("max_position_embeddings", {"n_positions"}), max_position_embeddings,
          "Longest sequence.", size_from(1));
  v.field("norm", norm, "Normalisation.", one_of({"rms_norm", "layer_norm"}));
  v.field(name("norm_eps", {"rms_norm_eps", "layer_norm_epsilon"}), norm_eps,
          "Epsilon of the norms.", positive<double>());
  v.field("position", position, "Positions: rotary, or a learned table.",
          one_of({"rope", "learned"}));
  visit_rope(v, *this);
  v.field("mlp", mlp, "MLP.", one_of({"swiglu", "gelu_tanh", "gelu_erf"}));
  read_activation(v, *this, "hidden_act");
  read_activation(v, *this, "activation_function");
  v.field("attention_bias", attention_bias, "Biases of the query, key and value projections.");
  if (published && v.has("attention_bias") && model_type != "qwen2")
    attention_output_bias = attention_bias;
  v.field("attention_output_bias", attention_output_bias,
          "Bias of the attention's output projection.");
  v.field("mlp_bias", mlp_bias, "Biases of the MLP.");
  v.field("qk_norm", qk_norm, "RMS norm of each query and key head.");
  v.field("sliding_window", sliding_window, "Keys that a query sees, itself included; 0 means all.",
          size_from(0));
  v.field("layer_types", layer_types,
          "full_attention or sliding_attention for each layer; empty: all as sliding_window says.");
  if (published && v.has("use_sliding_window")) {
    bool used = true;
    v.field("use_sliding_window", used, "");
    if (!used) sliding_window = 0;
  }
  v.field("tie_word_embeddings", tie_word_embeddings, "The head reads the embedding table.");
  v.field("initializer_range", initializer_range, "Standard deviation of initial weights.",
          positive<double>());
  v.field("dropout", dropout, "Dropout of the embedding and of each block's output.", fraction());
  if (v.reading()) check_model(v, *this);
}

int64_t ModelConfig::window_of_layer(int64_t layer) const {
  if (layer_types.empty()) return sliding_window;
  return layer_types[size_t(layer)] == "sliding_attention" ? sliding_window : 0;
}

ModelConfig read_model_config(const std::string& file) {
  ModelConfig config;
  read_config_file(file, {}, [&](ConfigVisitor& v) { config.visit(v); });
  return config;
}

}  // namespace forja
