// SPDX-License-Identifier: Apache-2.0
// Models as GGUF: names, order of rows, types, keys, and what is refused.
#include "forja/checkpoint/gguf_model.h"

#include <cmath>
#include <numbers>

#include "tests/checkpoint/gguf_reader.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

ModelConfig family(const std::string& model_type) {
  ModelConfig model;
  model.model_type = model_type;
  EXPECT_TRUE(model.apply_model_type());
  model.vocab_size = 53;
  model.hidden_size = 32;
  model.num_hidden_layers = 2;
  model.num_attention_heads = 4;
  model.num_key_value_heads = model_type == "gpt2" ? 4 : 2;
  model.head_dim = model_type == "qwen3" ? 16 : 8;
  model.intermediate_size = 40;  // no multiple of 32
  model.max_position_embeddings = 64;
  model.tie_word_embeddings = model_type != "llama";
  return model;
}

// Each number tells where it is: the parameter's place in the list, its row and its column.
float number_at(size_t parameter, int64_t row, int64_t column) {
  return float(parameter) * 0.5f + float(row) * 0x1p-8f + float(column) * 0x1p-14f;
}

class Numbered : public WeightSource {
 public:
  explicit Numbered(const ModelConfig& model, DType dtype = DType::f32)
      : specs_(parameters_of(model)), dtype_(dtype) {}
  size_t index(const std::string& name) const {
    for (size_t i = 0; i < specs_.size(); ++i)
      if (specs_[i].name == name) return i;
    ADD_FAILURE() << name;
    return 0;
  }
  std::vector<float> read(const ParameterSpec& spec) const override {
    std::vector<float> out;
    for (int64_t r = 0; r < spec.rows(); ++r)
      for (int64_t c = 0; c < spec.columns(); ++c) out.push_back(number_at(index(spec.name), r, c));
    return out;
  }
  DType dtype(const ParameterSpec&) const override { return dtype_; }
  std::vector<std::string> names_beside(const std::vector<ParameterSpec>&) const override {
    return {"beside"};
  }

 private:
  std::vector<ParameterSpec> specs_;
  DType dtype_;
};

testing::GgufFile exported(const ModelConfig& model, std::optional<GgufType> type,
                           GgufExport* result = nullptr, DType stored = DType::f32) {
  const testing::TemporaryDirectory folder;
  const GgufExport made =
      export_gguf(Numbered(model, stored), model, "small",
                  {{"tokenizer.ggml.model", std::string("no_vocab")}}, type, folder.file("x.gguf"));
  if (result) *result = made;
  return testing::GgufFile(folder.file("x.gguf"));
}

TEST(GgufModel, RowsOfAHeadAreInterleaved) {
  // Two heads of six dims: (0, 3), (1, 4) and (2, 5) turn together.
  const std::vector<float> in = {0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15};
  std::vector<float> out(12);
  interleave_rotary_rows(in.data(), 12, 1, 6, out.data());
  EXPECT_EQ(out, (std::vector<float>{0, 3, 1, 4, 2, 5, 10, 13, 11, 14, 12, 15}));
}

TEST(GgufModel, InterleavingKeepsEachPairAndHasAnInverse) {
  const int64_t heads = 3, d = 8, columns = 5;
  std::vector<float> in(size_t(heads * d * columns)), out(in.size()), back(in.size());
  for (size_t i = 0; i < in.size(); ++i) in[i] = float(i);
  interleave_rotary_rows(in.data(), heads * d, columns, d, out.data());
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = 0; i < d / 2; ++i)
      for (int64_t c = 0; c < columns; ++c) {
        const auto at = [&](int64_t row) { return size_t((h * d + row) * columns + c); };
        EXPECT_EQ(out[at(2 * i)], in[at(i)]);
        EXPECT_EQ(out[at(2 * i + 1)], in[at(i + d / 2)]);
        back[at(i)] = out[at(2 * i)];
        back[at(i + d / 2)] = out[at(2 * i + 1)];
      }
  EXPECT_EQ(back, in);
}

TEST(GgufModel, LlamaTensors) {
  const ModelConfig model = family("llama");
  GgufExport result;
  const auto file = exported(model, GgufType::f32, &result);
  const Numbered source(model);
  EXPECT_EQ(file.tensors.size(), 3u + 2u * 9u);
  EXPECT_EQ(result.extra_tensors, std::vector<std::string>{"beside"});
  EXPECT_TRUE(result.not_quantized.empty());
  const auto expect_rows = [&](const std::string& name, const std::string& parameter,
                               const std::vector<int64_t>& rows, int64_t columns) {
    const auto& dims = file.tensors.at(name).dims;
    EXPECT_EQ(dims, (std::vector<uint64_t>{uint64_t(columns), rows.size()})) << name;
    const std::vector<float> values = file.values(name);
    for (size_t r = 0; r < rows.size(); ++r)
      for (int64_t c = 0; c < columns; ++c)
        ASSERT_EQ(values[r * size_t(columns) + size_t(c)],
                  number_at(source.index(parameter), rows[r], c))
            << name << " " << r << " " << c;
  };
  const auto range = [](int64_t begin, int64_t count) {
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < count; ++i) rows.push_back(begin + i);
    return rows;
  };
  const auto turned = [](int64_t begin, int64_t heads) {
    std::vector<int64_t> rows;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i : {0, 4, 1, 5, 2, 6, 3, 7}) rows.push_back(begin + h * 8 + i);
    return rows;
  };
  expect_rows("token_embd.weight", "embedding.weight", range(0, 53), 32);
  expect_rows("output.weight", "head.weight", range(0, 53), 32);
  expect_rows("blk.1.attn_q.weight", "layers.1.attention.qkv.weight", turned(0, 4), 32);
  expect_rows("blk.1.attn_k.weight", "layers.1.attention.qkv.weight", turned(32, 2), 32);
  expect_rows("blk.1.attn_v.weight", "layers.1.attention.qkv.weight", range(48, 16), 32);
  expect_rows("blk.0.attn_output.weight", "layers.0.attention.output.weight", range(0, 32), 32);
  expect_rows("blk.0.ffn_gate.weight", "layers.0.mlp.up.weight", range(0, 40), 32);
  expect_rows("blk.0.ffn_up.weight", "layers.0.mlp.up.weight", range(40, 40), 32);
  expect_rows("blk.0.ffn_down.weight", "layers.0.mlp.down.weight", range(0, 32), 40);
  for (const char* norm : {"output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"})
    EXPECT_EQ(file.tensors.at(std::string(norm) + ".weight").dims, std::vector<uint64_t>{32});
}

TEST(GgufModel, LlamaKeys) {
  ModelConfig model = family("llama");
  model.head_dim = 16;
  const auto file = exported(model, GgufType::f16);
  EXPECT_EQ(file.texts.at("general.architecture"), "llama");
  EXPECT_EQ(file.texts.at("general.name"), "small");
  EXPECT_EQ(file.texts.at("tokenizer.ggml.model"), "no_vocab");
  const std::map<std::string, double> numbers = {
      {"general.file_type", 1},
      {"general.quantization_version", 2},
      {"llama.vocab_size", 53},
      {"llama.context_length", 64},
      {"llama.embedding_length", 32},
      {"llama.block_count", 2},
      {"llama.feed_forward_length", 40},
      {"llama.attention.head_count", 4},
      {"llama.attention.head_count_kv", 2},
      {"llama.attention.layer_norm_rms_epsilon", double(1e-5f)},
      {"llama.attention.key_length", 16},
      {"llama.attention.value_length", 16},
      {"llama.rope.dimension_count", 16},
      {"llama.rope.freq_base", 10000},
  };
  EXPECT_EQ(file.numbers, numbers);
}

TEST(GgufModel, OtherFamilies) {
  const auto gpt2 = exported(family("gpt2"), GgufType::f16);
  EXPECT_EQ(gpt2.texts.at("general.architecture"), "gpt2");
  EXPECT_EQ(gpt2.tensors.at("blk.0.attn_qkv.weight").dims, (std::vector<uint64_t>{32, 96}));
  EXPECT_EQ(gpt2.tensors.at("blk.0.attn_qkv.bias").type, 0u);
  EXPECT_EQ(gpt2.tensors.at("position_embd.weight").type, 0u);
  EXPECT_EQ(gpt2.tensors.at("token_embd.weight").type, 1u);
  EXPECT_EQ(gpt2.tensors.count("output.weight"), 0u);
  EXPECT_EQ(gpt2.numbers.count("gpt2.rope.freq_base"), 0u);
  EXPECT_EQ(gpt2.numbers.at("gpt2.attention.layer_norm_epsilon"), double(1e-5f));

  const auto qwen2 = exported(family("qwen2"), GgufType::f32);
  const size_t qkv = Numbered(family("qwen2")).index("layers.0.attention.qkv.weight");
  EXPECT_EQ(qwen2.values("blk.0.attn_q.weight")[32], number_at(qkv, 1, 0));  // as it was
  EXPECT_EQ(qwen2.tensors.at("blk.0.attn_k.bias").dims, std::vector<uint64_t>{16});

  const auto qwen3 = exported(family("qwen3"), GgufType::f32);
  EXPECT_EQ(qwen3.tensors.at("blk.1.attn_q_norm.weight").dims, std::vector<uint64_t>{16});
  EXPECT_EQ(qwen3.numbers.at("qwen3.attention.key_length"), 16);

  ModelConfig biased = family("llama");
  biased.attention_bias = biased.attention_output_bias = biased.mlp_bias = true;
  const auto llama = exported(biased, GgufType::f32);
  const size_t bias = Numbered(biased).index("layers.0.attention.qkv.bias");
  EXPECT_EQ(llama.values("blk.0.attn_q.bias")[1], number_at(bias, 4, 0));  // turned as its rows
  EXPECT_EQ(llama.tensors.count("blk.0.ffn_gate.bias"), 1u);
  EXPECT_EQ(exported(family("mistral"), GgufType::f32).texts.at("general.architecture"), "llama");
}

TEST(GgufModel, Types) {
  GgufExport result;
  const auto file = exported(family("llama"), GgufType::q8_0, &result);
  EXPECT_EQ(file.tensors.at("blk.0.ffn_up.weight").type, 8u);
  EXPECT_EQ(file.tensors.at("blk.0.ffn_down.weight").type, 1u);  // rows of 40
  EXPECT_EQ(file.tensors.at("blk.0.ffn_norm.weight").type, 0u);
  EXPECT_EQ(file.numbers.at("general.file_type"), 7);
  EXPECT_EQ(result.not_quantized,
            (std::vector<std::string>{"blk.0.ffn_down.weight", "blk.1.ffn_down.weight"}));
  exported(family("llama"), std::nullopt, &result);
  EXPECT_EQ(result.type, GgufType::f32);
  const auto stored = exported(family("llama"), std::nullopt, &result, DType::bf16);
  EXPECT_EQ(result.type, GgufType::bf16);
  EXPECT_EQ(stored.tensors.at("output.weight").type, 30u);
}

TEST(GgufModel, RopeScalings) {
  ModelConfig model = family("llama");
  model.rope.rope_type = "linear";
  model.rope.factor = 4.0;
  auto file = exported(model, GgufType::f16);
  EXPECT_EQ(file.texts.at("llama.rope.scaling.type"), "linear");
  EXPECT_EQ(file.numbers.at("llama.rope.scaling.factor"), 4);

  model.rope.rope_type = "yarn";
  model.rope.original_max_position_embeddings = 16;
  file = exported(model, GgufType::f16);
  EXPECT_EQ(file.texts.at("llama.rope.scaling.type"), "yarn");
  EXPECT_EQ(file.numbers.at("llama.rope.scaling.original_context_length"), 16);
  EXPECT_EQ(file.numbers.count("llama.rope.scaling.attn_factor"), 0u);
  model.rope.attention_factor = 2.0 * (0.1 * std::log(4.0) + 1.0);
  file = exported(model, GgufType::f16);
  EXPECT_NEAR(file.numbers.at("llama.rope.scaling.attn_factor"), 2.0, 1e-6);

  model.rope = {};
  model.rope.rope_type = "llama3";
  model.rope.factor = 8.0;
  model.rope.original_max_position_embeddings = 16;
  file = exported(model, GgufType::f16);
  EXPECT_EQ(file.texts.count("llama.rope.scaling.type"), 0u);
  // Wavelengths 2 pi 10^i of original context 16: kept below 4, divided by 8 above 16, and between
  // by 1 / ((1 - s) / 8 + s), s = (16 / wavelength - 1) / 3.
  const double s = (16.0 / (2.0 * std::numbers::pi) - 1.0) / 3.0;
  const std::vector<float> divisors = file.values("rope_freqs.weight");
  ASSERT_EQ(divisors.size(), 4u);
  EXPECT_NEAR(divisors[0], 1.0 / ((1.0 - s) / 8.0 + s), 1e-6);
  for (size_t i = 1; i < 4; ++i) EXPECT_NEAR(divisors[i], 8.0f, 1e-6);
}

TEST(GgufModel, SlidingWindows) {
  ModelConfig model = family("mistral");
  EXPECT_EQ(same_until(model), std::nullopt);
  model.sliding_window = 7;
  EXPECT_EQ(same_until(model), 7);
  model.sliding_window = model.max_position_embeddings;
  EXPECT_EQ(same_until(model), std::nullopt);
  model = family("qwen2");
  model.sliding_window = 9;
  model.layer_types = {"full_attention", "full_attention"};
  EXPECT_EQ(same_until(model), std::nullopt);
  model.layer_types[1] = "sliding_attention";
  EXPECT_EQ(same_until(model), 9);
}

TEST(GgufModel, WhatIsRefused) {
  const auto refused = [](const ModelConfig& model) {
    return testing::error_of([&] { check_gguf_model(model); }, ExitCode::bad_input);
  };
  ModelConfig model = family("gpt2");
  model.mlp = "gelu_erf";
  EXPECT_NE(refused(model).find("gpt2 has no exact GELU"), std::string::npos);
  model = family("qwen2");
  model.rope.rope_type = "llama3";
  model.rope.factor = 8.0;
  EXPECT_NE(refused(model).find("qwen2 has no rope_type llama3"), std::string::npos);
  model = family("qwen3");
  model.attention_bias = model.attention_output_bias = true;
  EXPECT_NE(refused(model).find("qwen3 has no biases in the attention"), std::string::npos);
  model = family("llama");
  model.rope.rope_type = "yarn";
  model.rope.factor = 0.5;
  EXPECT_NE(refused(model).find("yarn with a factor below 1, which is 0.5"), std::string::npos);
  model = family("llama");
  model.qk_norm = true;
  EXPECT_NE(refused(model).find("model_type llama have no qk_norm"), std::string::npos);
}

}  // namespace
}  // namespace forja
