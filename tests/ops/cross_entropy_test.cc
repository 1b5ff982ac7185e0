// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/cross_entropy.h"

#include <algorithm>
#include <limits>

#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Shape {
  int64_t n, v;
};
constexpr Shape kShapes[] = {{1, 1}, {3, 15}, {7, 100}, {4, 5003}, {2, 33000}};

Tensor make_targets(TensorBox& box, int64_t n, int64_t first, int64_t v) {
  std::vector<int32_t> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(int32_t(first + i * 31 % v));
  if (n > 2) values[1] = -1;                      // no target
  if (n > 2) values[2] = int32_t(first + v + 1);  // on another rank
  return box.from(values, {n});
}

TEST(CrossEntropy, StatisticsMatchTheDefinition) {
  TensorBox box;
  for (const Shape& s : kShapes) {
    for (const DType dtype : kFloats) {
      const int64_t first = 40;
      const Tensor logits = box.normal(dtype, {s.n, s.v + 3}, 1, 4.0).slice(1, 1, 1 + s.v);
      const Tensor targets = make_targets(box, s.n, first, s.v);
      const Tensor maximum = box.empty(DType::f32, {s.n}), sum = box.empty(DType::f32, {s.n});
      const Tensor target_logit = box.empty(DType::f32, {s.n});
      softmax_statistics(box.context(), logits, targets, first, maximum, sum, target_logit);
      const std::vector<double> x = to_doubles(logits);
      for (int64_t r = 0; r < s.n; ++r) {
        const auto begin = x.begin() + r * s.v;
        const double m = *std::max_element(begin, begin + s.v);
        double total = 0, exponents = 0;
        for (int64_t c = 0; c < s.v; ++c) {
          total += std::exp(begin[c] - m);
          exponents += std::exp(begin[c] - m) * (m - begin[c]);
        }
        EXPECT_EQ(maximum.ptr<float>()[r], m);
        // Each exponent is rounded (relative error u of it), each exp has its error, the sum has v
        // terms; blocks of the row are rescaled.
        const double bound =
            total * (2 * kExpError + gamma(double(s.v) + 2)) + gamma(1) * exponents;
        EXPECT_NEAR(sum.ptr<float>()[r], total, bound);
        const int64_t column = targets.ptr<int32_t>()[r] - first;
        const bool here = targets.ptr<int32_t>()[r] >= 0 && column < s.v;
        EXPECT_EQ(target_logit.ptr<float>()[r], here ? begin[column] : 0.0);
      }
    }
  }
}

TEST(CrossEntropy, GradientMatchesTheDefinition) {
  TensorBox box;
  for (const Shape& s : kShapes) {
    for (const DType dtype : kFloats) {
      for (const DType out : kFloats) {
        const int64_t first = 7;
        const Tensor logits = box.normal(dtype, {s.n, s.v}, 1, 4.0),
                     targets = make_targets(box, s.n, first, s.v);
        const Tensor lse = box.normal(DType::f32, {s.n}, 2),
                     coefficient = box.normal(DType::f32, {s.n}, 3);
        const Tensor gradient = box.normal(out, {s.n, s.v + 1}, 4).slice(1, 0, s.v);
        for (int64_t r = 0; r < s.n; ++r) lse.ptr<float>()[r] += 20;
        const std::vector<double> x = to_doubles(logits);
        std::vector<Bounded> expected(x.size());
        for (size_t i = 0; i < x.size(); ++i) {
          const size_t r = i / size_t(s.v);
          const int32_t target = targets.ptr<int32_t>()[r];
          const double l = lse.ptr<float>()[r], k = coefficient.ptr<float>()[r],
                       p = std::exp(x[i] - l);
          const bool hit = target >= 0 && target - first == int64_t(i % size_t(s.v));
          const double relative = gamma(1) * std::fabs(x[i] - l) + kExpError + gamma(2);
          expected[i] = {k * (p - (hit ? 1 : 0)),
                         std::fabs(k) * (p * relative + (hit ? gamma(3) * std::fabs(p - 1) : 0))};
        }
        softmax_gradient(box.context(), logits, targets, first, lse, coefficient, gradient);
        expect_within(gradient, expected, "gradient");
        if (dtype == out) {
          softmax_gradient(box.context(), logits, targets, first, lse, coefficient, logits);
          expect_same_bits(logits, gradient, "in place");
        }
      }
    }
  }
}

// From logits to the gradient of the mean loss, against central differences of the loss in fp64.
TEST(CrossEntropy, GradientIsTheDerivativeOfTheLoss) {
  TensorBox box;
  const int64_t n = 3, v = 11;
  const Tensor logits = box.normal(DType::f32, {n, v}, 1),
               targets = box.from(std::vector<int32_t>{4, 0, 10}, {n});
  const Tensor maximum = box.empty(DType::f32, {n}), sum = box.empty(DType::f32, {n}),
               target = box.empty(DType::f32, {n});
  softmax_statistics(box.context(), logits, targets, 0, maximum, sum, target);
  const Tensor coefficient = box.empty(DType::f32, {n}), gradient = box.empty(DType::f32, {n, v});
  const Tensor lse = box.empty(DType::f32, {n});
  for (int64_t r = 0; r < n; ++r) {
    lse.ptr<float>()[r] = maximum.ptr<float>()[r] + std::log(sum.ptr<float>()[r]);
    coefficient.ptr<float>()[r] = 1.0f / float(n);
  }
  softmax_gradient(box.context(), logits, targets, 0, lse, coefficient, gradient);
  std::vector<double> x = to_doubles(logits);
  const auto loss = [&] {
    double total = 0;
    for (int64_t r = 0; r < n; ++r) {
      double z = 0;
      for (int64_t c = 0; c < v; ++c) z += std::exp(x[size_t(r * v + c)]);
      total += (std::log(z) - x[size_t(r * v + targets.ptr<int32_t>()[r])]) / double(n);
    }
    return total;
  };
  for (size_t i = 0; i < x.size(); ++i) {
    const double before = x[i], h = 1e-5;
    x[i] = before + h;
    const double high = loss();
    x[i] = before - h;
    const double low = loss();
    x[i] = before;
    EXPECT_NEAR((high - low) / (2 * h), gradient.ptr<float>()[i], 1e-6);
  }
}

TEST(CrossEntropy, InfinitiesAndCoefficientZero) {
  TensorBox box;
  const Context& ctx = box.context();
  const int64_t v = 40;
  const Tensor logits = box.normal(DType::f32, {4, v}, 1),
               targets = box.from(std::vector<int32_t>{1, 1, 1, 1}, {4});
  float* x = logits.ptr<float>();
  x[5] = -kInfinity;                                      // a masked column
  for (int64_t c = 0; c < v; ++c) x[v + c] = -kInfinity;  // all of them
  x[2 * v + 39] = std::nanf("");
  x[3 * v + 3] = kInfinity;
  const Tensor maximum = box.empty(DType::f32, {4}), sum = box.empty(DType::f32, {4}),
               target = box.empty(DType::f32, {4});
  softmax_statistics(ctx, logits, targets, 0, maximum, sum, target);
  EXPECT_TRUE(std::isfinite(sum.ptr<float>()[0]));
  EXPECT_EQ(maximum.ptr<float>()[1], -kInfinity);
  EXPECT_EQ(sum.ptr<float>()[1], 0.0f);
  EXPECT_TRUE(std::isnan(sum.ptr<float>()[2]));
  EXPECT_FALSE(std::isfinite(sum.ptr<float>()[3]));
  const Tensor lse = box.empty(DType::f32, {4}), coefficient = box.zeros(DType::f32, {4});
  std::fill_n(lse.ptr<float>(), 4, std::nanf(""));
  softmax_gradient(ctx, logits, targets, 0, lse, coefficient, logits);
  for (double g : to_doubles(logits)) ASSERT_EQ(g, 0);
}

TEST(CrossEntropy, RefusesWhatDoesNotFit) {
  TensorBox box;
  const Context& ctx = box.context();
  const Tensor logits = box.zeros(DType::bf16, {4, 9}), targets = box.zeros(DType::i32, {4}),
               s = box.zeros(DType::f32, {4});
  EXPECT_NE(error_of([&] {
              softmax_statistics(ctx, logits, box.zeros(DType::i64, {4}), 0, s, s, s);
            }).find("int32"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              softmax_statistics(ctx, logits, targets, 0, s, box.zeros(DType::f32, {5}), s);
            }).find("sum_exp must have shape [4]"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              softmax_gradient(ctx, logits, targets, 0, s, s, box.zeros(DType::f32, {4, 8}));
            }).find("dlogits must have shape [4, 9]"),
            std::string::npos);
  Tensor overlapping = logits;
  overlapping.dtype = DType::f32;
  EXPECT_NE(error_of([&] {
              softmax_gradient(ctx, logits, targets, 0, s, s, overlapping);
            }).find("same dtype"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
