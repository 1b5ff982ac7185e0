// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/adamw.h"

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "forja/base/philox.h"
#include "forja/ops/elementwise.h"
#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

using Ranges = std::vector<AdamWRange>;

AdamWRange make_range(TensorBox& box, int64_t n, DType moments = DType::f32, bool compute = false) {
  AdamWRange r;
  r.gradient = box.normal(DType::f32, {n}, 1, 0.1);
  r.weight = box.normal(DType::f32, {n}, 2);
  r.first_moment = box.zeros(moments, {n});
  r.second_moment = box.zeros(moments, {n});
  if (compute) r.compute_weight = box.zeros(DType::bf16, {n});
  r.key = 0x123456789abcdef;
  return r;
}

// Elements [begin, end) of a range that is one run.
AdamWRange part_of(const AdamWRange& r, int64_t begin, int64_t end) {
  AdamWRange out = r;
  for (Tensor* t : {&out.gradient, &out.weight, &out.first_moment, &out.second_moment})
    *t = t->slice(0, begin, end);
  if (r.compute_weight.defined()) out.compute_weight = r.compute_weight.slice(0, begin, end);
  out.elements.first += begin;
  return out;
}

AdamWState make_shared(TensorBox& box) {
  const AdamWState out{box.zeros(DType::f64, {1}), box.zeros(DType::i64, {1}),
                       box.zeros(DType::f64, {1})};
  *out.largest_sum.ptr<double>() = std::numeric_limits<double>::max();
  return out;
}

void step(const Context& ctx, const AdamWState& shared, const AdamWOptions& o,
          const Ranges& ranges) {
  const AdamWList list = make_adamw_list(ctx, ranges, *ctx.workspace);
  begin_adamw_step(ctx, shared);
  adamw_step(ctx, shared, o, list);
}

void expect_same_range(const AdamWRange& a, const AdamWRange& b) {
  expect_same_bits(a.weight, b.weight, "weight");
  expect_same_bits(a.first_moment, b.first_moment, "first moment");
  expect_same_bits(a.second_moment, b.second_moment, "second moment");
  if (a.compute_weight.defined())
    expect_same_bits(a.compute_weight, b.compute_weight, "compute weight");
}

constexpr AdamWOptions kOptions = {.lr = 1e-2f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.95f,
                                   .eps = 1e-8f,
                                   .weight_decay = 0.1f,
                                   .clip_norm = 0.5f};

AdamWOptions with(Rounding rounding) {
  AdamWOptions o = kOptions;
  o.rounding = rounding;
  return o;
}

struct Variant {
  DType moments;
  Rounding rounding;
};
constexpr Variant kVariants[] = {{DType::f32, Rounding::nearest},
                                 {DType::bf16, Rounding::nearest},
                                 {DType::bf16, Rounding::stochastic}};

struct Expected {
  std::vector<Bounded> first, second, weight;
};

// The step in fp64, with bounds for fp32: gradient scale, two products and a sum for each moment;
// root, product and sum for the denominator, a division, the step; the decay.
Expected expected_step(const AdamWRange& r, const AdamWOptions& o, double squares, int t) {
  const std::vector<double> g = to_doubles(r.gradient), w = to_doubles(r.weight),
                            m = to_doubles(r.first_moment), v = to_doubles(r.second_moment);
  const double clip = std::min(1.0, double(o.clip_norm) / (std::sqrt(squares) + 1e-6));
  const double b1 = o.beta1, b2 = o.beta2, lr = o.lr;
  // Rounding to nearest is in expect_within: at random, the error is at most twice that.
  const double further = o.rounding == Rounding::stochastic ? unit_roundoff(DType::bf16) : 0.0;
  Expected out;
  for (size_t i = 0; i < g.size(); ++i) {
    const double x = g[i] * clip;
    const double m1 = b1 * m[i] + (1 - b1) * x, v1 = b2 * v[i] + (1 - b2) * x * x;
    const double m_size = b1 * std::fabs(m[i]) + (1 - b1) * std::fabs(x);
    out.first.push_back({m1, gamma(5) * m_size + further * std::fabs(m1)});
    out.second.push_back({v1, gamma(7) * v1 + further * v1});
    const double denominator = std::sqrt(v1) / std::sqrt(1 - std::pow(b2, t)) + double(o.eps);
    const double update = lr / (1 - std::pow(b1, t)) * m1 / denominator;
    const double update_error = lr / (1 - std::pow(b1, t)) * gamma(16) * m_size / denominator;
    const double decayed = r.decays ? w[i] * (1 - lr * double(o.weight_decay)) : w[i];
    out.weight.push_back(
        {decayed - update, update_error + gamma(3) * (std::fabs(decayed) + std::fabs(update))});
  }
  return out;
}

// Each step from the op's own state, so that only one step's roundings count.
void expect_definition(TensorBox& box, const AdamWRange& r, const AdamWOptions& o) {
  const AdamWState shared = make_shared(box);
  for (int t = 1; t <= 3; ++t) {
    double squares = 0;
    for (double x : to_doubles(r.gradient)) squares += x * x;
    *shared.sum_of_squares.ptr<double>() = squares;
    const Expected expected = expected_step(r, o, squares, t);
    step(box.context(), shared, o, {r});
    EXPECT_EQ(*shared.num_updates.ptr<int64_t>(), t);
    expect_within(r.first_moment, expected.first, "first moment");
    expect_within(r.second_moment, expected.second, "second moment");
    expect_within(r.weight, expected.weight, "weight");
    for (int64_t i = 0; r.compute_weight.defined() && i < r.weight.num_elements(); ++i) {
      ASSERT_EQ(r.compute_weight.ptr<BFloat16>()[i].bits, BFloat16(r.weight.ptr<float>()[i]).bits);
    }
  }
}

TEST(AdamW, StepMatchesTheDefinition) {
  TensorBox box;
  for (const auto& [moments, rounding] : kVariants) {
    for (const int64_t n : {1, 15, 100003}) {
      for (const bool compute : {false, true}) {
        AdamWRange r = make_range(box, n, moments, compute);
        r.decays = !compute || n == 15;
        expect_definition(box, r, with(rounding));
      }
    }
    // Views that begin anywhere.
    expect_definition(box, part_of(make_range(box, 900, moments, true), 3, 877), with(rounding));
  }
}

TEST(AdamW, ARangeMayHaveALearningRateOfItsOwn) {
  TensorBox box;
  const AdamWRange scaled = make_range(box, 1000, DType::f32, true),
                   slow = make_range(box, 1000, DType::f32, true);
  AdamWRange r = scaled;
  r.lr_scale = 0.25f;  // a power of two: the same bits as the product
  AdamWOptions quarter = kOptions;
  quarter.lr *= 0.25f;
  const AdamWState a = make_shared(box), b = make_shared(box);
  *a.sum_of_squares.ptr<double>() = *b.sum_of_squares.ptr<double>() = 1.0;
  step(box.context(), a, kOptions, {r});
  step(box.context(), b, quarter, {slow});
  expect_same_range(scaled, slow);
}

TEST(AdamW, NonFiniteNormChangesNothing) {
  TensorBox box;
  for (const double norm : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    const AdamWRange r = make_range(box, 1000, DType::bf16, true),
                     same = make_range(box, 1000, DType::bf16, true);
    r.gradient.ptr<float>()[7] = std::nanf("");
    const AdamWState shared = make_shared(box);
    *shared.sum_of_squares.ptr<double>() = norm;
    step(box.context(), shared, with(Rounding::stochastic), {r});
    EXPECT_EQ(*shared.num_updates.ptr<int64_t>(), 0);
    expect_same_range(r, same);
  }
}

// At the largest sum a step is done, above it no bit changes.
TEST(AdamW, StepsAboveTheLargestSumChangeNothing) {
  TensorBox box;
  for (const double squares : {std::nextafter(4.0, 5.0), 1e30, double(INFINITY), double(NAN)}) {
    const AdamWRange r = make_range(box, 1000, DType::bf16, true),
                     same = make_range(box, 1000, DType::bf16, true);
    const AdamWState shared = make_shared(box);
    *shared.largest_sum.ptr<double>() = 4.0;
    *shared.sum_of_squares.ptr<double>() = squares;
    step(box.context(), shared, with(Rounding::stochastic), {r});
    EXPECT_EQ(*shared.num_updates.ptr<int64_t>(), 0);
    expect_same_range(r, same);
    *shared.sum_of_squares.ptr<double>() = 4.0;
    step(box.context(), shared, with(Rounding::stochastic), {r});
    EXPECT_EQ(*shared.num_updates.ptr<int64_t>(), 1);
    EXPECT_NE(to_doubles(r.weight), to_doubles(same.weight));
  }
}

TEST(AdamW, ClippingLeavesSmallGradientsAlone) {
  TensorBox box;
  const AdamWRange clipped = make_range(box, 100), plain = make_range(box, 100);
  const AdamWState a = make_shared(box), b = make_shared(box);
  *a.sum_of_squares.ptr<double>() = *b.sum_of_squares.ptr<double>() = 0.04;
  AdamWOptions o = kOptions;
  step(box.context(), a, o, {clipped});
  o.clip_norm = 0;
  step(box.context(), b, o, {plain});
  expect_same_bits(clipped.weight, plain.weight, "norm 0.2 below 0.5");
}

// However a parameter is cut into ranges, and whatever else is in the list.
TEST(AdamW, RangesAndThreadsGiveTheSameBits) {
  TensorBox box;
  const int64_t n = 70001;
  for (const auto& [moments, rounding] : kVariants) {
    const AdamWRange whole = make_range(box, n, moments, true),
                     parts = make_range(box, n, moments, true);
    Ranges list;
    for (const auto& [a, b] :
         {std::pair<int64_t, int64_t>{40000, n}, {3, 3}, {0, 3}, {3, 4000}, {4000, 40000}}) {
      list.push_back(part_of(parts, a, b));
      list.push_back(make_range(box, 33, moments));
    }
    with_threads(3, [&] { step(box.context(), make_shared(box), with(rounding), {whole}); });
    with_threads(1, [&] { step(box.context(), make_shared(box), with(rounding), list); });
    expect_same_range(whole, parts);
  }
}

// Without a gradient, a moment times its beta is rounded once to fp32, then at random: every bit is
// known. Parts lie in the full tensor as runs, or as rows cut by columns.
TEST(AdamW, StochasticRoundingDrawsByElementAndUpdate) {
  constexpr int64_t kCount = 5000;
  // The last one: over the end of the counters' low words.
  const ElementMap maps[] = {
      {}, {.first = 6}, {70, 3, 7, 21}, {1 << 20, 0, 8, 16}, {.first = (int64_t(1) << 34) - 2222}};
  TensorBox box;
  const AdamWState shared = make_shared(box);
  for (const ElementMap& map : maps) {
    AdamWRange r = make_range(box, kCount);
    r.elements = map;
    fill_zero(box.context(), r.gradient);
    r.first_moment = box.normal(DType::bf16, {kCount}, 3);
    r.second_moment = box.normal(DType::bf16, {kCount}, 4);
    for (int64_t i = 0; i < kCount; ++i) r.second_moment.ptr<BFloat16>()[i].bits &= 0x7fff;
    const std::vector<double> m = to_doubles(r.first_moment), v = to_doubles(r.second_moment);
    step(box.context(), shared, with(Rounding::stochastic), {r});
    const auto update = uint64_t(*shared.num_updates.ptr<int64_t>());
    for (int64_t i = 0; i < kCount; ++i) {
      const int64_t at = map.column + i,
                    e = map.columns
                            ? map.first + at / map.columns * map.full_columns + at % map.columns
                            : map.first + i;
      const uint32_t word = philox(r.key, uint64_t(e / 4), update).v[e % 4];
      const float m1 = float(m[size_t(i)]) * kOptions.beta1,
                  v1 = float(v[size_t(i)]) * kOptions.beta2;
      ASSERT_EQ(float(r.first_moment.ptr<BFloat16>()[i]), round_stochastically(m1, word & 0xffff));
      ASSERT_EQ(float(r.second_moment.ptr<BFloat16>()[i]), round_stochastically(v1, word >> 16));
    }
  }
}

// What state_dtype's documentation says of nearest rounding, and that the other one is unbiased: a
// step adds to the mean of n elements an error of variance at most (spacing / 2)^2 / n; five
// standard deviations are allowed.
TEST(AdamW, NearestRoundingStallsAndStochasticRoundingDoesNot) {
  constexpr int64_t kCount = 1 << 16;
  constexpr int kSteps = 100;
  constexpr float kStart = 1.5f;
  TensorBox box;
  for (const Rounding rounding : {Rounding::nearest, Rounding::stochastic}) {
    AdamWRange r = make_range(box, kCount, DType::bf16);
    fill_zero(box.context(), r.gradient);
    fill_value(box.context(), r.second_moment, kStart);
    fill_value(box.context(), r.first_moment, -kStart);
    AdamWOptions o = with(rounding);
    o.beta1 = o.beta2 = 0.999f;
    const AdamWState shared = make_shared(box);
    for (int t = 0; t < kSteps; ++t) step(box.context(), shared, o, {r});
    const double kept = kStart * std::pow(double(o.beta2), kSteps);
    const double spacing = std::ldexp(1.0, -7);  // of bf16 in [1, 2)
    const double deviation = spacing / 2 * std::sqrt(double(kSteps) / double(kCount));
    double first = 0, second = 0;
    for (double x : to_doubles(r.first_moment)) first += x / kCount;
    for (double x : to_doubles(r.second_moment)) second += x / kCount;
    const bool stalls = rounding == Rounding::nearest;
    EXPECT_NEAR(second, stalls ? double(kStart) : kept, stalls ? 0.0 : 5 * deviation);
    EXPECT_NEAR(first, stalls ? double(-kStart) : -kept, stalls ? 0.0 : 5 * deviation);
  }
}

TEST(AdamW, StochasticRoundingIsExactAndKeepsWhatIsNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const uint32_t random : {0u, 1u, 0x8000u, 0xffffu}) {
    for (const float x : {0.0f, 1.0f, -2.5f, infinity, -infinity})
      EXPECT_EQ(round_stochastically(x, random), x);
    EXPECT_TRUE(std::isnan(round_stochastically(std::nanf(""), random)));
    uint32_t all_ones = 0x7fffffffu;
    float nan;
    memcpy(&nan, &all_ones, 4);
    EXPECT_TRUE(std::isnan(round_stochastically(nan, random)));
  }
  // 1 + 3/8 of a spacing goes up for 3/8 of all words.
  const float x = 1.0f + 0.375f * 0x1p-7f;
  int up = 0;
  for (uint32_t random = 0; random < 65536; ++random) up += round_stochastically(x, random) > x;
  EXPECT_EQ(up, 65536 * 3 / 8);
  EXPECT_EQ(round_stochastically(-x, 0), -1.0f);
  // A gradient whose square is no fp32 number.
  TensorBox box;
  const AdamWRange r = make_range(box, 21, DType::bf16);
  fill_value(box.context(), r.gradient, 1e30f);
  AdamWOptions o = with(Rounding::stochastic);
  o.clip_norm = 0;
  step(box.context(), make_shared(box), o, {r});
  for (double v : to_doubles(r.second_moment)) EXPECT_EQ(v, double(infinity));
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
    const AdamWRange s{.gradient = box.from(gradients[t], {n}),
                       .weight = box.from(weights[t], {n}),
                       .first_moment = box.from(first[t], {n}),
                       .second_moment = box.from(second[t], {n})};
    const AdamWState shared = make_shared(box);
    *shared.num_updates.ptr<int64_t>() = int64_t(t);
    step(box.context(), shared, options, {s});
    EXPECT_EQ(*shared.num_updates.ptr<int64_t>(), int64_t(t) + 1);
    expect_step(s.first_moment, first[t + 1], 1.0);
    expect_step(s.second_moment, second[t + 1], 1e-2);
    // An update is at most lr / (1 - beta1) times a ratio of at most sqrt(steps).
    expect_step(s.weight, weights[t + 1], 1e-2 * std::sqrt(double(t) + 1));
  }
}

TEST(AdamW, SumOfSquaresInDouble) {
  TensorBox box;
  const Context& ctx = box.context();
  Ranges ranges;
  double expected = 0;
  for (const int64_t n : {0, 1, 19, 65536, 65537, 400000}) {
    for (const bool counts : {true, false}) {
      AdamWRange r = make_range(box, n);
      r.counts = counts;
      ranges.push_back(r);
      for (double x : to_doubles(r.gradient)) expected += counts ? x * x : 0.0;
    }
  }
  const AdamWList list = make_adamw_list(ctx, ranges, *ctx.workspace);
  EXPECT_EQ(list.ranges.size(), 10u) << "none is empty";
  const Tensor one = box.zeros(DType::f64, {1}), three = box.zeros(DType::f64, {1});
  *one.ptr<double>() = 3.0;
  with_threads(1, [&] { sum_of_squares(ctx, list, one); });
  with_threads(3, [&] { sum_of_squares(ctx, list, three); });
  EXPECT_NEAR(*one.ptr<double>(), expected, expected * 600000 * 0x1p-53);
  EXPECT_EQ(*one.ptr<double>(), *three.ptr<double>());
  sum_of_squares(ctx, make_adamw_list(ctx, {}, *ctx.workspace), one);
  EXPECT_EQ(*one.ptr<double>(), 0.0) << "a rank without parameters";
  EXPECT_NE(error_of([&] { sum_of_squares(ctx, list, ranges[0].weight); }).find("must be fp64"),
            std::string::npos);
}

TEST(AdamW, RefusesWhatDoesNotFit) {
  TensorBox box;
  const Context& ctx = box.context();
  const AdamWRange good = make_range(box, 10);
  const auto refused = [&](const AdamWRange& r) {
    return error_of([&] { make_adamw_list(ctx, {good, r}, *ctx.workspace); });
  };
  AdamWRange r = good;
  r.gradient = r.gradient.slice(0, 0, 9);
  EXPECT_NE(refused(r).find("of one size"), std::string::npos);
  r = good;
  r.compute_weight = r.weight;
  EXPECT_NE(refused(r).find("compute_weight must be bf16"), std::string::npos);
  EXPECT_NE(refused(make_range(box, 10, DType::bf16)).find("first_moment must be fp32"),
            std::string::npos);
  AdamWState shared = make_shared(box);
  EXPECT_NE(error_of([&] {
              step(ctx, shared, with(Rounding::stochastic), {good});
            }).find("fp32 moments are not rounded"),
            std::string::npos);
  shared.num_updates = good.weight;
  EXPECT_NE(error_of([&] { begin_adamw_step(ctx, shared); }).find("num_updates must be int64"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
