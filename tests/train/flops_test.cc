// SPDX-License-Identifier: Apache-2.0
#include "forja/train/flops.h"

#include "tests/testing/testing.h"

namespace forja {
namespace {

ModelConfig small_model() {
  ModelConfig m;
  m.apply_model_type();
  m.vocab_size = 100;
  m.hidden_size = 8;
  m.num_hidden_layers = 2;
  m.num_attention_heads = 4;
  m.num_key_value_heads = 2;
  m.head_dim = 2;
  m.intermediate_size = 12;
  return m;
}

// A layer: q and output 2 x 8 x 8, k and v 2 x 8 x 4, three MLP matrices of 8 x 12.
constexpr double kAttention = 2 * 64 + 2 * 32, kMlp = 3 * 96, kHead = 100 * 8;

TEST(Flops, CountsMatricesAndAttendedPairs) {
  testing::TensorBox box;
  const ModelConfig m = small_model();
  EXPECT_EQ(matmul_parameters(m), int64_t(2 * (kAttention + kMlp) + kHead));
  // Two documents of 3 and 5 tokens in a row of 8: 6 + 15 of 64 pairs.
  const Tensor sequences = box.from(std::vector<int32_t>{0, 3, 0, 3, 3, 5, 3, 5}, {2, 4});
  const double matmul = 6.0 * 8 * (2 * (kAttention + kMlp) + kHead);
  const FlopsCount flops = training_flops(m, {}, matmul_flops_of_token(m, {}), 8, sequences, 8);
  EXPECT_EQ(flops.attended, matmul + 2 * 12.0 * 8 * 21);
  EXPECT_EQ(flops.full_attention, matmul + 2 * 12.0 * 8 * 64);
  EXPECT_EQ(flops.recomputed, 0.0);
}

TEST(Flops, FrozenMatricesNeedNoGradient) {
  ModelConfig m = small_model();
  EXPECT_EQ(matmul_flops_of_token(m, {}), 6.0 * double(matmul_parameters(m)));
  EXPECT_EQ(matmul_flops_of_token(m, {.rules = {{"layers.0.*", false}}}),
            6.0 * double(matmul_parameters(m)) - 2 * (kAttention + kMlp));
  m.lora.rank = 3;
  m.lora.targets = {"o_proj", "up_proj"};
  // A [3, 8] and B [8, 3] of the one, A [3, 8] and B [12, 3] of the other, in two layers.
  EXPECT_EQ(matmul_flops_of_token(m, {.only_adapters = true}),
            4.0 * double(matmul_parameters(m)) + 6.0 * 2 * (3 * 16 + 3 * 20));
}

TEST(Flops, RecomputeAddsForwardWorkOnly) {
  testing::TensorBox box;
  const ModelConfig m = small_model();
  const Tensor sequences = box.from(std::vector<int32_t>{0, 8, 0, 8}, {1, 4});
  ParallelConfig parallel;
  parallel.layer_recompute = {"selective", "full"};
  const FlopsCount flops =
      training_flops(m, parallel, matmul_flops_of_token(m, {}), 8, sequences, 8);
  const double attention = 4.0 * 8 * 36;  // two products of 2 x 8 flops a pair
  EXPECT_EQ(flops.recomputed, 2 * attention + 2.0 * 8 * (kAttention + kMlp - 96));
  EXPECT_EQ(flops.attended,
            training_flops(m, {}, matmul_flops_of_token(m, {}), 8, sequences, 8).attended);
}

TEST(PeakFlops, OfDatasheets) {
  const auto bf16 = [](const char* name) {
    const auto peak = datasheet_peak(name, DType::bf16);
    return peak ? peak->flops : 0.0;
  };
  EXPECT_EQ(bf16("NVIDIA H100 80GB HBM3"), 989e12);
  EXPECT_EQ(bf16("NVIDIA H100 PCIe"), 756e12);
  EXPECT_EQ(bf16("NVIDIA H200"), 989e12);
  EXPECT_EQ(bf16("NVIDIA GH200 480GB"), 989e12);
  EXPECT_EQ(bf16("NVIDIA A100-SXM4-40GB"), 312e12);
  EXPECT_EQ(bf16("NVIDIA H100 80GB HBM3 MIG 1g.10gb"), 0.0);
  EXPECT_EQ(bf16("some other GPU"), 0.0);
  EXPECT_EQ(datasheet_peak("NVIDIA H200", DType::bf16)->source,
            "datasheet: 989 TFLOP/s, dense bf16, of NVIDIA H200");
  EXPECT_EQ(datasheet_peak("NVIDIA A100-SXM4-40GB", DType::f32)->flops, 19.5e12);
}

}  // namespace
}  // namespace forja
