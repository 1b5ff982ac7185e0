// SPDX-License-Identifier: Apache-2.0
// Adapters and frozen parameters: every layout trains them as one rank does, and leaves the rest as
// it was.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/testing/model_testing.h"
#include "tests/train/run_layout.h"

namespace forja {
namespace {

// Fewer layers and steps than of other layouts: more of them change nothing.
Layout small(Layout layout) {
  layout.layers = 4;
  layout.steps = std::min(layout.steps, 4);
  return layout;
}

LoraConfig lora(double dropout = 0.0) {
  LoraConfig out;
  out.rank = 4;
  out.alpha = 8.0;
  out.dropout = dropout;
  return out;
}

bool is_adapter(const std::string& name) { return name.find(".lora_") != std::string::npos; }

void expect_as(const Result& found, const Result& expected, const std::string& name) {
  EXPECT_TRUE(found.initial == expected.initial) << name << ": initial weights";
  ASSERT_EQ(found.losses.size(), expected.losses.size());
  for (size_t s = 0; s < expected.losses.size(); ++s) {
    EXPECT_NEAR(found.losses[s], expected.losses[s], 1e-5 * expected.losses[s]) << name;
    EXPECT_NEAR(found.norms[s], expected.norms[s], 1e-4 * expected.norms[s]) << name;
  }
  EXPECT_NEAR(found.evaluation, expected.evaluation, 1e-5 * expected.evaluation) << name;
  std::vector<double> ours, theirs;
  for (const auto& [parameter, values] : expected.final) {
    const auto& other = found.final.at(parameter);
    if (!is_adapter(parameter)) {
      EXPECT_TRUE(other == expected.initial.at(parameter)) << name << ": " << parameter;
      continue;
    }
    ours.insert(ours.end(), other.begin(), other.end());
    theirs.insert(theirs.end(), values.begin(), values.end());
  }
  EXPECT_LT(testing::relative_norm(ours, theirs), 2e-5) << name << ": adapters";
}

std::vector<Layout> layouts(bool gpt2) {
  std::vector<Layout> out = {
      {.gpt2 = gpt2, .tp = 2},
      {.gpt2 = gpt2, .tp = 4, .recompute = "full"},
      {.gpt2 = gpt2, .pp = 2, .schedule = "zb_h1"},
      {.gpt2 = gpt2, .dp = 2},
      {.gpt2 = gpt2, .dp = 2, .zero = 1, .recompute = "selective"},
      {.gpt2 = gpt2, .dp = 4, .zero = 2, .dp_shard = 2},
      {.gpt2 = gpt2, .dp = 4, .zero = 3},
      {.gpt2 = gpt2,
       .tp = 2,
       .pp = 2,
       .dp = 2,
       .zero = 3,
       .virtual_stages = 2,
       .schedule = "interleaved_1f1b"},
  };
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  out = {out[0], out.back()};  // each is some ten times slower
#endif
  return out;
}

TEST(Lora, EveryLayoutTrainsAsOneRankDoes) {
  for (const bool gpt2 : {false, true}) {
    for (const double dropout : {0.0, 0.2}) {
      const Result expected = train(small({.gpt2 = gpt2, .lora = lora(dropout)}));
      for (const auto& [name, values] : expected.final)
        EXPECT_EQ(values != expected.initial.at(name), is_adapter(name)) << name;
      for (Layout layout : layouts(gpt2)) {
        layout.lora = lora(dropout);
        expect_as(train(small(layout)), expected,
                  layout.to_string() + (dropout > 0 ? " with dropout" : ""));
      }
    }
  }
}

// Of a fused weight some segments: queries and values, the MLP's gate.
TEST(Lora, TargetsMayBePartsOfAFusedWeight) {
  LoraConfig some = lora();
  some.targets = {"q_proj", "v_proj", "mlp.gate_proj"};
  const Result expected = train({.lora = some});
  ASSERT_EQ(expected.final.count("layers.0.attention.qkv.lora_a"), 1u);
  EXPECT_EQ(expected.final.at("layers.0.attention.qkv.lora_a").size(), size_t(2 * 4 * 32));
  EXPECT_EQ(expected.final.at("layers.0.attention.qkv.lora_b").size(), size_t((32 + 16) * 4));
  EXPECT_EQ(expected.final.at("layers.0.mlp.up.lora_b").size(), size_t(48 * 4));
  EXPECT_EQ(expected.final.count("layers.0.mlp.down.lora_a"), 0u);
  expect_as(train({.tp = 4, .lora = some}), expected, "tp 4");
  expect_as(train({.tp = 2, .dp = 2, .zero = 3, .lora = some}), expected, "tp 2 zero 3");
}

TEST(Lora, DropoutChangesTrainingAndNotEvaluation) {
  const Result plain = train({.lora = lora()}), dropped = train({.lora = lora(0.5)});
  EXPECT_EQ(plain.losses[0], dropped.losses[0]) << "B is zero";
  EXPECT_NE(plain.losses[1], dropped.losses[1]);
}

TEST(Lora, Bf16FollowsFp32) {
  const Result expected = train({.lora = lora()});
  for (const int tp : {1, 2}) {
    const Layout layout{.tp = tp, .dp = 2, .zero = 3, .lora = lora(), .compute_dtype = DType::bf16};
    const Result found = train(layout);
    for (size_t s = 0; s < expected.losses.size(); ++s)
      EXPECT_NEAR(found.losses[s], expected.losses[s], 5e-3 * expected.losses[s]) << tp;
  }
}

TEST(Frozen, ParametersStayAsTheyAre) {
  const std::vector<ParameterRule> rules = {{"*", false}, {"layers.[13].mlp.*"}, {"*norm*"}};
  const auto trained = [](const std::string& name) {
    return name.find("norm") != std::string::npos ||
           (name.find(".mlp.") != std::string::npos &&
            (name.starts_with("layers.1.") || name.starts_with("layers.3.")));
  };
  for (const bool gpt2 : {false, true}) {
    const Result expected = train(small({.gpt2 = gpt2, .parameters = rules}));
    for (Layout layout : layouts(gpt2)) {
      layout.parameters = rules;
      const Result found = train(small(layout));
      for (size_t s = 0; s < expected.losses.size(); ++s) {
        EXPECT_NEAR(found.losses[s], expected.losses[s], 1e-5 * expected.losses[s])
            << layout.to_string();
      }
      for (const auto& [name, values] : found.final)
        EXPECT_EQ(values == found.initial.at(name), !trained(name)) << name;
    }
  }
}

// Of what is trained, gradients and moments; of the rest nothing but bf16 weights.
TEST(Frozen, ParametersTakeNoMemoryButTheirWeights) {
  Layout layout{.dp = 2, .compute_dtype = DType::bf16};
  for (layout.zero = 0; layout.zero <= 3; ++layout.zero) {
    const auto plan_of = [&](const LoraConfig& l) {
      layout.lora = l;
      const EngineConfig config = config_of(layout);
      return TrainEngine::plan(config, ParallelDims::from(config.parallel, 2));
    };
    LoraConfig small = lora();
    small.rank = 1;
    small.targets = {"q_proj"};  // in 8 layers 64 numbers each, beside 9,000
    const MemoryPlan whole = plan_of({}), adapted = plan_of(small);
    EXPECT_LT(adapted.gradients, whole.gradients / 20) << layout.zero;
    EXPECT_LT(adapted.optimizer, whole.optimizer / 20) << layout.zero;
    EXPECT_LT(adapted.weights, whole.weights + whole.weights / 8) << layout.zero;
  }
}

TEST(Frozen, ALearningRateOfItsOwn) {
  // Without decay AdamW's first step is lr x sign(gradient), whatever the gradient.
  Layout layout{.parameters = {{"layers.2.*", true, 0.25}}, .steps = 1};
  const Result found = train(layout);
  const auto largest_step = [&](const std::string& name) {
    const auto &a = found.initial.at(name), &b = found.final.at(name);
    double largest = 0.0;
    for (size_t i = 0; i < a.size(); ++i)
      largest = std::max(largest, std::fabs(double(b[i]) - double(a[i])));
    return largest;
  };
  EXPECT_NEAR(largest_step("layers.1.mlp_norm.weight"), kLearningRate, 0.02 * kLearningRate);
  EXPECT_NEAR(largest_step("layers.2.mlp_norm.weight"), 0.25 * kLearningRate, 0.02 * kLearningRate);
}

}  // namespace
}  // namespace forja
