// SPDX-License-Identifier: Apache-2.0
#include "forja/data/sampler.h"

#include <chrono>
#include <cmath>
#include <numeric>
#include <set>

#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::error_of;

TEST(Permutation, IsOne) {
  for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 100, 1000, 4096, 4097, 100003}) {
    for (uint64_t key : {0ull, 1ull, 0xFFFFFFFFFFFFFFFFull}) {
      const Permutation permutation(key, n);
      std::vector<bool> seen(size_t(n), false);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t p = permutation(i);
        ASSERT_GE(p, 0);
        ASSERT_LT(p, n);
        ASSERT_FALSE(seen[size_t(p)]) << n << ' ' << i;
        seen[size_t(p)] = true;
      }
    }
  }
}

// Positions of a shuffled sequence are uniform and unlike the index: mean displacement n/3, few
// fixed points, no correlation between neighbours beyond 5 standard deviations.
TEST(Permutation, LooksRandom) {
  const int64_t n = 100000;
  const Permutation permutation(42, n);
  double displacement = 0, product = 0;
  int64_t fixed = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double p = double(permutation(i));
    displacement += std::abs(p - double(i));
    fixed += p == double(i);
    product += (p / double(n) - 0.5) * (double(permutation((i + 1) % n)) / double(n) - 0.5) * 12.0;
  }
  EXPECT_NEAR(displacement / double(n) / double(n), 1.0 / 3.0, 5.0 * 0.24 / std::sqrt(double(n)));
  EXPECT_LE(fixed, 10);
  EXPECT_NEAR(product / double(n), 0.0, 5.0 / std::sqrt(double(n)));
}

TEST(Permutation, DependsOnTheKey) {
  const Permutation a(1, 1000), b(2, 1000);
  int same = 0;
  for (int64_t i = 0; i < 1000; ++i) same += a(i) == b(i);
  EXPECT_LT(same, 12);
}

TEST(Blend, DecimalWeightsAreExact) {
  const Blend blend({0.9, 0.1});
  EXPECT_EQ(blend.period(), 10);
  EXPECT_EQ(blend.quota(0), 9);
  const Blend fine({0.1234, 0.5, 0.3766});
  EXPECT_EQ(fine.quota(0), 617);
  EXPECT_EQ(fine.quota(1), 2500);
  EXPECT_EQ(fine.period(), 5000);
}

// Every prefix has the right share to within about one sample a source, and each source's samples
// come in order.
TEST(Blend, SharesAreRightInEveryPrefix) {
  const std::vector<double> weights = {3.0, 1.0, 0.5, 0.031};
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  const Blend blend(weights);
  std::vector<int64_t> counts(weights.size(), 0);
  for (int64_t sample = 0; sample < 3 * blend.period() + 17; ++sample) {
    const Blend::Draw draw = blend(sample);
    ASSERT_EQ(draw.index, counts[size_t(draw.source)]++);
    for (size_t i = 0; i < weights.size(); ++i) {
      const double expected = double(sample + 1) * weights[i] / sum;
      // Half a slot from rounding positions, the other sources' slots at the same place, and the
      // rounded quota.
      const double rounding = double(sample + 1) / double(Blend::kMaxPeriod);
      ASSERT_NEAR(double(counts[i]), expected, double(weights.size()) / 2 + 0.5 + rounding)
          << sample << ' ' << i;
    }
  }
}

TEST(Blend, TinyWeightsKeepASlot) {
  const Blend blend({1.0, 1e-9});
  EXPECT_EQ(blend.quota(1), 1);
  EXPECT_EQ(blend.quota(0), Blend::kMaxPeriod - 1);
  std::vector<double> many(10000, 1e-9);
  many[0] = 1.0;
  EXPECT_EQ(Blend(many).period(), 10000);
}

TEST(Blend, BadWeightsAreRefused) {
  for (double weight : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    EXPECT_NE(error_of(
                  [&] {
                    Blend({1.0, weight});
                  },
                  ExitCode::bad_input)
                  .find("source 1"),
              std::string::npos);
  }
  EXPECT_NE(error_of([] { Blend({}); }, ExitCode::bad_input), "");
}

TEST(Sampler, AnEpochVisitsEverySampleOnce) {
  const int64_t length = 16, n = 1000;
  const Sampler sampler({{n * length + 5, 1.0}}, length, 3, SampleOrder::shuffled);
  EXPECT_EQ(sampler.samples_per_epoch(0), n);
  std::vector<int64_t> first_order, second_order;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::set<int64_t> seen;
    for (int64_t k = 0; k < n; ++k) {
      const Sampler::Sample sample = sampler(epoch * n + k);
      EXPECT_EQ(sample.epoch, epoch);
      EXPECT_EQ(sample.first_token % length, 0);
      EXPECT_LE(sample.first_token + length, n * length);
      seen.insert(sample.first_token);
      (epoch == 0 ? first_order : second_order).push_back(sample.first_token);
    }
    EXPECT_EQ(int64_t(seen.size()), n);
  }
  EXPECT_NE(first_order, second_order);
}

TEST(Sampler, SequentialOrderForValidation) {
  const Sampler sampler({{101, 1.0}}, 10, 0, SampleOrder::sequential);
  for (int64_t k = 0; k < 25; ++k) EXPECT_EQ(sampler(k).first_token, k % 10 * 10);
}

TEST(Sampler, SeedAndSourceChangeTheOrder) {
  const auto order = [](uint64_t seed, int64_t source) {
    const Sampler sampler({{16001, 1.0}, {16001, 1.0}}, 16, seed, SampleOrder::shuffled);
    std::vector<int64_t> tokens;
    for (int64_t k = 0; k < 400; ++k) {
      if (sampler(k).source == source) tokens.push_back(sampler(k).first_token);
    }
    return tokens;
  };
  EXPECT_EQ(order(1, 0), order(1, 0));
  EXPECT_NE(order(1, 0), order(2, 0));
  EXPECT_NE(order(1, 0), order(1, 1));
}

// A trillion tokens cost nothing to start on, and a sample takes well under a millisecond.
TEST(Sampler, StartsInConstantTimeOnATrillionTokens) {
  const auto start = std::chrono::steady_clock::now();
  const Sampler sampler({{1'000'000'000'000, 0.7}, {3'000'000'000'000, 0.3}}, 4096, 9,
                        SampleOrder::shuffled);
  std::set<std::pair<int64_t, int64_t>> seen;
  for (int64_t k = 0; k < 1000; ++k) {
    const Sampler::Sample sample = sampler(123'456'789 + k);
    EXPECT_TRUE(seen.insert({sample.source, sample.first_token}).second);
  }
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 1.0);
}

// What a rank reads is a function of the global index alone: any split of a step among ranks is the
// same set.
TEST(Sampler, AnyNumberOfRanksSeesTheSameBatch) {
  const std::vector<SampleSource> sources = {{100'000, 2.0}, {50'000, 1.0}};
  const auto step_of = [&](int64_t step, int64_t batch, int64_t ranks) {
    std::set<std::pair<int64_t, int64_t>> samples;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const Sampler sampler(sources, 128, 5, SampleOrder::shuffled);
      for (int64_t i = rank * batch / ranks; i < (rank + 1) * batch / ranks; ++i) {
        const Sampler::Sample sample = sampler(step * batch + i);
        samples.insert({sample.source, sample.first_token});
      }
    }
    return samples;
  };
  for (int64_t step : {0, 1, 17, 500}) {
    EXPECT_EQ(step_of(step, 24, 1), step_of(step, 24, 2));
    EXPECT_EQ(step_of(step, 24, 1), step_of(step, 24, 8));
  }
}

TEST(Sampler, TooSmallSourcesAreRefused) {
  const std::string message = error_of(
      [] {
        Sampler({{100, 1.0}, {16, 1.0}}, 16, 0, SampleOrder::shuffled);
      },
      ExitCode::bad_input);
  EXPECT_NE(message.find("source 1 has 16 tokens"), std::string::npos) << message;
}

}  // namespace
}  // namespace forja
