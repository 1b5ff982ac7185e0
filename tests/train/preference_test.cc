// SPDX-License-Identifier: Apache-2.0
// Preference losses: their derivatives, whole models against PyTorch in fp64
// (tests/golden/preference.safetensors, made by make_preference_reference.py), and every layout.
#include "forja/train/preference.h"

#include <gtest/gtest.h>

#include <cmath>

#include "forja/checkpoint/safetensors.h"
#include "forja/data/sample_rows.h"
#include "forja/train/load_weights.h"
#include "tests/testing/model_testing.h"
#include "tests/testing/testing.h"
#include "tests/train/run_layout.h"

namespace forja {
namespace {

// ---- One pair

TEST(PairLoss, DerivativesAreThoseOfTheLoss) {
  for (const char* loss : {"dpo", "ipo"}) {
    const PreferenceConfig config{loss, 0.3};
    const Answer reference_chosen{-11.0, 7}, reference_rejected{-8.0, 3};
    const auto at = [&](double c, double r) {
      return pair_loss(config, {c, 7}, {r, 3}, reference_chosen, reference_rejected);
    };
    for (const double c : {-30.0, -11.0, -3.0}) {
      for (const double r : {-20.0, -8.0, -1.0}) {
        const double h = 1e-5;
        const PairLoss found = at(c, r);
        EXPECT_NEAR(found.d_chosen, (at(c + h, r).sums.loss - at(c - h, r).sums.loss) / (2 * h),
                    1e-7);
        EXPECT_NEAR(found.d_rejected, (at(c, r + h).sums.loss - at(c, r - h).sums.loss) / (2 * h),
                    1e-7);
        EXPECT_DOUBLE_EQ(found.sums.chosen_reward, 0.3 * (c + 11.0));
        EXPECT_DOUBLE_EQ(found.sums.rejected_reward, 0.3 * (r + 8.0));
        EXPECT_EQ(found.sums.num_accurate, c + 11.0 > r + 8.0 ? 1.0 : 0.0);
      }
    }
  }
}

TEST(PairLoss, LargeMarginsAreFinite) {
  const PreferenceConfig config{"dpo", 1.0};
  const PairLoss bad = pair_loss(config, {-5000.0, 9}, {-1.0, 9}, {-1.0, 9}, {-1.0, 9});
  EXPECT_DOUBLE_EQ(bad.sums.loss, 4999.0);
  EXPECT_DOUBLE_EQ(bad.d_chosen, -1.0);
  const PairLoss good = pair_loss(config, {-1.0, 9}, {-5000.0, 9}, {-1.0, 9}, {-1.0, 9});
  EXPECT_EQ(good.sums.loss, 0.0);
  EXPECT_EQ(good.d_chosen, -0.0);
}

TEST(PairLoss, AtTheReferenceItIsLogTwo) {
  const PairLoss start = pair_loss({"dpo", 0.1}, {-3, 2}, {-4, 2}, {-3, 2}, {-4, 2});
  EXPECT_DOUBLE_EQ(start.sums.loss, std::log(2.0));
  EXPECT_DOUBLE_EQ(start.d_chosen, -0.05);
}

// ---- A model, against PyTorch

constexpr int64_t kRows = 2, kLength = 32;

class PreferenceGolden : public ::testing::TestWithParam<const char*> {
 protected:
  PreferenceGolden()
      : golden_(testing::source_dir() + "/tests/golden"),
        reference_(golden_ + "/preference.safetensors"),
        self_(make_self_communicator()),
        mesh_(make_mesh(*self_, ParallelDims{})) {
    config_.model = model_of(golden_ + "/lora_llama");
    config_.model.lora.dropout = 0.4;  // which pairs do without
    config_.rules = {.only_adapters = true};
    config_.preference = {GetParam(), 0.3};
    config_.micro_batch_size = kRows;
    config_.sequence_length = kLength;
    config_.document_mask = true;
    config_.optimizer.clip_norm = 0.0;
  }

  std::vector<double> values(const std::string& name) const {
    return testing::to_doubles(reference_.tensor(name));
  }

  // Appends an answer at `row`; returns the first row after it.
  int64_t add(const MicroBatch& b, const std::string& side, int pair, int64_t row) {
    const auto ids = values(fmt::format("{}.{}", side, pair));
    const auto prompt = int64_t(values(fmt::format("prompt.{}", pair))[0]);
    const auto count = int64_t(ids.size()) - 1;
    for (int64_t i = 0; i < count; ++i) {
      b.tokens.ptr<int32_t>()[row + i] = int32_t(ids[size_t(i)]);
      b.targets.ptr<int32_t>()[row + i] =
          i + 1 < prompt ? kNotLearned : int32_t(ids[size_t(i + 1)]);
      b.positions.ptr<int32_t>()[row + i] = int32_t(i);
    }
    const int32_t sequence[] = {int32_t(row), int32_t(count), int32_t(row), int32_t(count)};
    std::copy(sequence, sequence + 4, b.sequences.ptr<int32_t>() + 4 * num_sequences_++);
    return row + count;
  }

  // The first row of the batch has the pairs 0 and 2, the second one pair 1; padding comes last.
  Tensor fill(const MicroBatch& b) {
    num_sequences_ = 0;
    std::fill(b.tokens.ptr<int32_t>(), b.tokens.ptr<int32_t>() + kRows * kLength, 1);
    std::fill(b.targets.ptr<int32_t>(), b.targets.ptr<int32_t>() + kRows * kLength, kPadding);
    std::fill(b.positions.ptr<int32_t>(), b.positions.ptr<int32_t>() + kRows * kLength, 0);
    int64_t ends[kRows] = {0, kLength};
    for (const int pair : {0, 2, 1})
      for (const char* side : {"chosen", "rejected"})
        ends[pair % 2] = add(b, side, pair, ends[pair % 2]);
    for (int64_t r = 0; r < kRows; ++r) {
      const auto begin = int32_t(ends[r]), count = int32_t((r + 1) * kLength - ends[r]);
      const int32_t sequence[] = {begin, count, begin, count};
      std::copy(sequence, sequence + 4, b.sequences.ptr<int32_t>() + 4 * num_sequences_++);
    }
    return b.sequences.slice(0, 0, num_sequences_);
  }

  std::string golden_;
  SafetensorsFile reference_;
  std::unique_ptr<Communicator> self_;
  Mesh mesh_;
  EngineConfig config_;
  int64_t num_sequences_ = 0;
};

TEST_P(PreferenceGolden, LossRewardsAndGradients) {
  const MemoryPlan plan = TrainEngine::plan(config_);
  TrainEngine engine(config_, mesh_, &plan);
  load_weights(engine.context(), golden_ + "/lora_llama", config_.model, engine.store());
  const auto fill_batch = [this](int64_t, const MicroBatch& b) { return fill(b); };
  const std::vector<double> expected = values(fmt::format("{}.loss", GetParam()));
  const auto validated = engine.evaluate(1, fill_batch).preference.mean();
  const StepResult result = engine.step(1, 1e-3, 1, fill_batch, [](int64_t) { return int64_t(0); });
  EXPECT_EQ(engine.memory_used(), plan);
  for (const PreferenceSums& found : {validated, result.preference}) {
    EXPECT_EQ(found.num_pairs, 3.0);
    EXPECT_NEAR(found.loss, expected[0], 1e-5 * expected[0]);
    EXPECT_NEAR(found.chosen_reward, expected[1], 1e-5);
    EXPECT_NEAR(found.rejected_reward, expected[2], 1e-5);
  }
  EXPECT_EQ(result.loss, result.preference.loss);
  for (const auto& p : engine.store().all()) {
    if (!p->spec.adapter) continue;
    int64_t row = 0;
    for (const HfSegment& s : p->spec.segments) {
      const std::string name = fmt::format("{}.grad.base_model.model.{}", GetParam(), s.name);
      EXPECT_LT(testing::relative_norm(testing::to_doubles(p->gradient.slice(0, row, row + s.rows)),
                                       values(name)),
                1e-5)
          << name;
      row += s.rows;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, PreferenceGolden, ::testing::Values("dpo", "ipo"),
                         [](const auto& instance) { return std::string(instance.param); });

// ---- Layouts

Layout pairs_of(Layout layout) {
  layout.preference = {"dpo", 0.5};
  layout.lora.rank = 4;
  layout.lora.alpha = 64.0;  // far from the reference in a few steps
  layout.layers = 4;
  layout.steps = std::min(layout.steps, 4);
  return layout;
}

TEST(Preference, EveryLayoutTrainsAsOneRankDoes) {
  const Result expected = train(pairs_of({}));
  EXPECT_NEAR(expected.losses[0], std::log(2.0), 1e-6) << "B is zero";
  EXPECT_NE(expected.losses[3], expected.losses[0]);
  std::vector<Layout> layouts = {
      {.tp = 2, .recompute = "full"},
      {.dp = 4, .zero = 3},
      {.tp = 2, .pp = 2, .dp = 2, .zero = 2, .schedule = "zb_h1"},
      {.pp = 2, .virtual_stages = 2, .schedule = "interleaved_1f1b"},
  };
  for (const Layout& layout : layouts) {
    const Result found = train(pairs_of(layout));
    for (size_t s = 0; s < expected.losses.size(); ++s) {
      EXPECT_NEAR(found.losses[s], expected.losses[s], 1e-5) << layout.to_string();
      EXPECT_NEAR(found.norms[s], expected.norms[s], 1e-4 * expected.norms[s]);
    }
    std::vector<double> ours, theirs;
    for (const auto& [name, values] : expected.final) {
      const auto& other = found.final.at(name);
      ours.insert(ours.end(), other.begin(), other.end());
      theirs.insert(theirs.end(), values.begin(), values.end());
    }
    EXPECT_LT(testing::relative_norm(ours, theirs), 1e-5) << layout.to_string();
  }
}

}  // namespace
}  // namespace forja
