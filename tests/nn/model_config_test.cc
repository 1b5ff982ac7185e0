// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/model_config.h"

#include "forja/nn/decoder.h"
#include "forja/nn/rope_tables.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

struct Published {
  const char* file;
  int64_t parameters;
};

class PublishedModels : public ::testing::TestWithParam<Published> {};

TEST_P(PublishedModels, ParameterCountsMatch) {
  const ModelConfig model =
      read_model_config(testing::source_dir() + "/configs/models/" + GetParam().file + ".yaml");
  EXPECT_EQ(count_parameters(model), GetParam().parameters);
}

INSTANTIATE_TEST_SUITE_P(
    All, PublishedModels,
    ::testing::Values(Published{"gpt2-124m", 124439808}, Published{"llama-2-7b", 6738415616},
                      Published{"llama-3-8b", 8030261248}, Published{"llama-3.2-1b", 1235814400},
                      Published{"llama-3-70b", 70553706496}, Published{"mistral-7b", 7241732096},
                      Published{"qwen2.5-0.5b", 494032768}, Published{"qwen2.5-1.5b", 1543714304},
                      Published{"qwen2.5-7b", 7615616512}, Published{"qwen3-0.6b", 596049920},
                      Published{"tinyllama-1.1b", 1100048384}));

ModelConfig parse(const std::string& text) {
  ModelConfig config;
  read_config_text(text, "model.yaml", {}, [&](ConfigVisitor& v) { config.visit(v); });
  return config;
}

TEST(ModelConfig, ModelTypeSetsWhatItImplies) {
  EXPECT_TRUE(parse("{model_type: qwen2}").attention_bias);
  EXPECT_FALSE(parse("{model_type: qwen2}").attention_output_bias);
  EXPECT_TRUE(parse("{model_type: qwen3}").qk_norm);
  EXPECT_EQ(parse("{model_type: gpt2}").position, "learned");
  EXPECT_TRUE(parse("{model_type: gpt2}").tie_word_embeddings);
  EXPECT_FALSE(parse("{model_type: gpt2, tie_word_embeddings: false}").tie_word_embeddings);
}

TEST(ModelConfig, ReadsPublishedFilesWithOldAndNewRopeKeys) {
  const ModelConfig old = parse(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 500000.0, "torch_dtype": "bfloat16",
          "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                           "original_max_position_embeddings": 8192, "rope_type": "llama3"}})");
  const ModelConfig current = parse(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
          "rope_parameters": {"rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                              "original_max_position_embeddings": 8192, "rope_type": "llama3"}})");
  EXPECT_EQ(rope_frequencies(old).inverse, rope_frequencies(current).inverse);
  EXPECT_NE(rope_frequencies(old).inverse,
            rope_frequencies(parse("{rope: {rope_theta: 500000.0}}")).inverse);
}

TEST(ModelConfig, SlidingWindowOfPublishedFiles) {
  EXPECT_EQ(
      parse(
          R"({"architectures": [], "model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": false})")
          .window_of_layer(0),
      0);
  EXPECT_EQ(parse(R"({"architectures": [], "model_type": "mistral", "sliding_window": 4096})")
                .window_of_layer(3),
            4096);
  EXPECT_EQ(parse(R"({"architectures": [], "model_type": "mistral", "sliding_window": null})")
                .window_of_layer(3),
            0);
  const ModelConfig mixed = parse(
      "{num_hidden_layers: 2, sliding_window: 8, layer_types: [sliding_attention, "
      "full_attention]}");
  EXPECT_EQ(mixed.window_of_layer(0), 8);
  EXPECT_EQ(mixed.window_of_layer(1), 0);
}

TEST(ModelConfig, FaultsNameKeyAndPlace) {
  const auto message = [](const std::string& text) {
    return testing::error_of([&] { parse(text); }, ExitCode::bad_input);
  };
  EXPECT_EQ(message("hidden_size: 30\nnum_attention_heads: 4\n"),
            "model.yaml:2:22: num_attention_heads: hidden_size 30 is not divisible by 4 heads");
  EXPECT_NE(message("{num_attention_heads: 4, num_key_value_heads: 3}")
                .find("4 heads are not divisible by 3"),
            std::string::npos);
  EXPECT_NE(
      message("{vocab_size: -5}").find("vocab_size: expected between 1 and 16777216, found -5"),
      std::string::npos);
  EXPECT_NE(message("{model_type: t5}").find("found \"t5\""), std::string::npos);
  EXPECT_NE(
      message("{hiden_size: 5}").find("unknown key \"hiden_size\"; did you mean \"hidden_size\"?"),
      std::string::npos);
  EXPECT_NE(message(R"({"architectures": [], "model_type": "llama", "hidden_act": "gelu"})")
                .find("does not go with"),
            std::string::npos);
  EXPECT_NE(message("{rope: {rope_type: dynamic}}").find("one of default, linear, llama3, yarn"),
            std::string::npos);
}

}  // namespace
}  // namespace forja
