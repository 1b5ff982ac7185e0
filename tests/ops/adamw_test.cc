// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/adamw.h"

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

struct State {
  Tensor gradient, weight, first, second, compute;
  AdamWState shared;
};

State make_state(TensorBox& box, int64_t n, bool compute) {
  State s;
  s.gradient = box.normal(DType::f32, {n}, 1, 0.1);
  s.weight = box.normal(DType::f32, {n}, 2);
  s.first = box.zeros(DType::f32, {n});
  s.second = box.zeros(DType::f32, {n});
  if (compute) s.compute = box.zeros(DType::bf16, {n});
  s.shared = {box.zeros(DType::f64, {1}), box.zeros(DType::i64, {1})};
  return s;
}

void step(const Context& ctx, const State& s, const AdamWOptions& o) {
  begin_adamw_step(ctx, s.shared);
  adamw_step(ctx, s.shared, o, s.gradient, s.weight, s.first, s.second, s.compute);
}

constexpr AdamWOptions kOptions = {.lr = 1e-2f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.95f,
                                   .eps = 1e-8f,
                                   .weight_decay = 0.1f,
                                   .clip_norm = 0.5f};

// Each step from the op's own state, so that only one step's roundings count: gradient scale, two
// products and a sum for each moment; root, product and sum for the denominator, a division, the
// step; the decay.
TEST(AdamW, StepMatchesTheDefinition) {
  TensorBox box;
  for (const int64_t n : {1, 15, 100003}) {
    for (const bool compute : {false, true}) {
      State s = make_state(box, n, compute);
      for (int t = 1; t <= 3; ++t) {
        const std::vector<double> g = to_doubles(s.gradient), w = to_doubles(s.weight),
                                  m = to_doubles(s.first);
        const std::vector<double> v = to_doubles(s.second);
        double squares = 0;
        for (double x : g) squares += x * x;
        *s.shared.sum_of_squares.ptr<double>() = squares;
        const AdamWOptions& o = kOptions;
        const double clip = std::min(1.0, double(o.clip_norm) / (std::sqrt(squares) + 1e-6));
        const double b1 = o.beta1, b2 = o.beta2, lr = o.lr;
        std::vector<Bounded> first, second, weight;
        for (size_t i = 0; i < g.size(); ++i) {
          const double x = g[i] * clip;
          const double m1 = b1 * m[i] + (1 - b1) * x, v1 = b2 * v[i] + (1 - b2) * x * x;
          const double m_size = b1 * std::fabs(m[i]) + (1 - b1) * std::fabs(x);
          first.push_back({m1, gamma(5) * m_size});
          second.push_back({v1, gamma(7) * v1});
          const double denominator = std::sqrt(v1) / std::sqrt(1 - std::pow(b2, t)) + double(o.eps);
          const double update = lr / (1 - std::pow(b1, t)) * m1 / denominator;
          const double update_error = lr / (1 - std::pow(b1, t)) * gamma(16) * m_size / denominator;
          const double decayed = w[i] * (1 - lr * double(o.weight_decay));
          weight.push_back({decayed - update,
                            update_error + gamma(3) * (std::fabs(decayed) + std::fabs(update))});
        }
        step(box.context(), s, o);
        EXPECT_EQ(*s.shared.num_updates.ptr<int64_t>(), t);
        expect_within(s.first, first, "first moment");
        expect_within(s.second, second, "second moment");
        expect_within(s.weight, weight, "weight");
        for (int64_t i = 0; compute && i < n; ++i) {
          ASSERT_EQ(s.compute.ptr<BFloat16>()[i].bits, BFloat16(s.weight.ptr<float>()[i]).bits);
        }
      }
    }
  }
}

TEST(AdamW, NonFiniteNormChangesNothing) {
  TensorBox box;
  for (const double norm : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    State s = make_state(box, 1000, true), same = make_state(box, 1000, true);
    s.gradient.ptr<float>()[7] = std::nanf("");
    *s.shared.sum_of_squares.ptr<double>() = norm;
    step(box.context(), s, kOptions);
    EXPECT_EQ(*s.shared.num_updates.ptr<int64_t>(), 0);
    expect_same_bits(s.weight, same.weight, "weight");
    expect_same_bits(s.first, same.first, "first moment");
    expect_same_bits(s.second, same.second, "second moment");
    expect_same_bits(s.compute, same.compute, "compute weight");
  }
}

TEST(AdamW, ClippingLeavesSmallGradientsAlone) {
  TensorBox box;
  State clipped = make_state(box, 100, false), plain = make_state(box, 100, false);
  *clipped.shared.sum_of_squares.ptr<double>() = *plain.shared.sum_of_squares.ptr<double>() = 0.04;
  AdamWOptions o = kOptions;
  step(box.context(), clipped, o);
  o.clip_norm = 0;
  step(box.context(), plain, o);
  expect_same_bits(clipped.weight, plain.weight, "norm 0.2 below 0.5");
}

TEST(AdamW, RangesAndThreadsGiveTheSameBits) {
  TensorBox box;
  const int64_t n = 70001;
  State whole = make_state(box, n, false), parts = make_state(box, n, false);
  with_threads(3, [&] { step(box.context(), whole, kOptions); });
  begin_adamw_step(box.context(), parts.shared);
  for (const auto& [a, b] : {std::pair<int64_t, int64_t>{0, 3}, {3, 40000}, {40000, n}}) {
    adamw_step(box.context(), parts.shared, kOptions, parts.gradient.slice(0, a, b),
               parts.weight.slice(0, a, b), parts.first.slice(0, a, b), parts.second.slice(0, a, b),
               {});
  }
  expect_same_bits(whole.weight, parts.weight, "weight");
}

// PyTorch's AdamW on one weight, each step from the file's own state: both sides round about 20
// times in fp32, of quantities no larger than the weight or the update.
TEST(AdamW, MatchesPyTorch) {
  FORJA_REQUIRE_ASSET(path, "vectors/onnxruntime-optim/adamw_single_weight.json");
  std::ifstream stream(path);
  const nlohmann::json file = nlohmann::json::parse(stream);
  using Steps = std::vector<std::vector<float>>;
  const Steps weights = file.at("Parameters"), gradients = file.at("Gradients");
  const Steps first = file.at("Momentum1s"), second = file.at("Momentum2s");
  ASSERT_GE(weights.size(), 2u);
  const AdamWOptions options = {.lr = 1e-3f,
                                .beta1 = 0.9f,
                                .beta2 = 0.999f,
                                .eps = 1e-8f,
                                .weight_decay = 0.01f,
                                .clip_norm = 0.0f};
  TensorBox box;
  const int64_t n = int64_t(weights[0].size());
  const auto expect_step = [&](const Tensor& found, const std::vector<float>& expected,
                               double size) {
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_NEAR(found.ptr<float>()[i], expected[size_t(i)],
                  2 * gamma(20) * (std::fabs(expected[size_t(i)]) + size));
    }
  };
  for (size_t t = 0; t + 1 < weights.size(); ++t) {
    const State s{box.from(gradients[t], {n}),
                  box.from(weights[t], {n}),
                  box.from(first[t], {n}),
                  box.from(second[t], {n}),
                  {},
                  {box.zeros(DType::f64, {1}), box.zeros(DType::i64, {1})}};
    *s.shared.num_updates.ptr<int64_t>() = int64_t(t);
    step(box.context(), s, options);
    EXPECT_EQ(*s.shared.num_updates.ptr<int64_t>(), int64_t(t) + 1);
    expect_step(s.first, first[t + 1], 1.0);
    expect_step(s.second, second[t + 1], 1e-2);
    // An update is at most lr / (1 - beta1) times a ratio of at most sqrt(steps).
    expect_step(s.weight, weights[t + 1], 1e-2 * std::sqrt(double(t) + 1));
  }
}

TEST(AdamW, RefusesWhatDoesNotFit) {
  TensorBox box;
  State s = make_state(box, 10, false);
  EXPECT_NE(error_of([&] {
              adamw_step(box.context(), s.shared, kOptions, s.gradient.slice(0, 0, 9), s.weight,
                         s.first, s.second, {});
            }).find("of one size"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              adamw_step(box.context(), s.shared, kOptions, s.gradient, s.weight, s.first, s.second,
                         s.weight);
            }).find("compute_weight must be bf16"),
            std::string::npos);
  s.shared.num_updates = s.weight;
  EXPECT_NE(error_of([&] {
              begin_adamw_step(box.context(), s.shared);
            }).find("num_updates must be int64"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
