// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/activation.h"

#include <string>

#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16};
constexpr double kSqrt2OverPi = 0.79788456080286535588;

struct Value {
  double y, derivative;
};

Value gelu(double x, GeluKind kind) {
  if (kind == GeluKind::erf) {
    const double cdf = 0.5 * std::erfc(-x / std::sqrt(2.0));
    return {x * cdf, cdf + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI)};
  }
  const double u = kSqrt2OverPi * (x + 0.044715 * x * x * x),
               slope = kSqrt2OverPi * (1 + 3 * 0.044715 * x * x);
  const double s = 1 / (1 + std::exp(-2 * u));  // (1 + tanh u) / 2
  return {x * s, s + x * 2 * slope * s * (1 - s)};
}

// The exponent (2u, or x^2 / 2) has relative error gamma(5), which exp turns into a relative error
// of as much as the exponent is large; then exp itself, and a handful of roundings of terms no
// larger than the summands.
double gelu_exponent(double x, GeluKind kind) {
  return kind == GeluKind::erf ? x * x / 2
                               : std::fabs(2 * kSqrt2OverPi * (x + 0.044715 * x * x * x));
}

Bounded gelu_value(double x, GeluKind kind) {
  const double y = gelu(x, kind).y;
  return {y, std::fabs(y) * (gamma(5) * (gelu_exponent(x, kind) + 2) + kExpError)};
}

Bounded gelu_slope(double x, GeluKind kind) {
  const double derivative = gelu(x, kind).derivative, s = x == 0 ? 0.5 : gelu(x, kind).y / x;
  // Summands: s, and x times its derivative. For the sigmoid 1 - s is known to gamma(4) absolutely.
  const double first = std::fabs(s), second = std::fabs(derivative - s);
  const double relative = gamma(5) * (gelu_exponent(x, kind) + 4) + 2 * kExpError;
  double absolute = 0;
  if (kind == GeluKind::tanh)
    absolute = gamma(6) * std::fabs(x * s) * 2 * kSqrt2OverPi * (1 + 3 * 0.044715 * x * x);
  return {derivative, relative * (first + second) + absolute};
}

// Values around zero, moderate and far out in both tails.
Tensor inputs(TensorBox& box, DType dtype, int64_t rows, int64_t columns) {
  const Tensor t = box.normal(dtype, {rows, columns}, 1, 2.5);
  const float special[] = {0.0f, -0.0f, 1e-20f, -1e-6f, 5.0f,  -5.0f,
                           9.0f, -9.0f, 13.0f,  -13.0f, 40.0f, -40.0f};
  for (int64_t i = 0; i < std::min<int64_t>(12, t.num_elements()); ++i) {
    if (dtype == DType::f32) t.ptr<float>()[i] = special[i];
    if (dtype == DType::bf16) t.ptr<BFloat16>()[i] = BFloat16(special[i]);
  }
  return t;
}

TEST(Activation, GeluMatchesTheDefinition) {
  TensorBox box;
  const Context& ctx = box.context();
  for (const DType dtype : kFloats) {
    for (const GeluKind kind : {GeluKind::tanh, GeluKind::erf}) {
      for (const int64_t columns : {1, 16, 45, 1000}) {
        const Tensor x = inputs(box, dtype, 5, columns),
                     dy = box.normal(dtype, {5, columns + 2}, 2).slice(1, 1, columns + 1);
        const Tensor y = box.empty(dtype, {5, columns}), dx = box.empty(dtype, {5, columns});
        const std::vector<double> v = to_doubles(x), g = to_doubles(dy);
        std::vector<Bounded> expected, expected_gradient;
        for (size_t i = 0; i < v.size(); ++i) {
          expected.push_back(gelu_value(v[i], kind));
          const Bounded slope = gelu_slope(v[i], kind);
          expected_gradient.push_back(
              {g[i] * slope.value,
               std::fabs(g[i]) * (slope.bound + gamma(1) * std::fabs(slope.value))});
        }
        gelu_forward(ctx, x, y, kind);
        expect_within(y, expected, kind == GeluKind::erf ? "erf" : "tanh");
        gelu_backward(ctx, dy, x, dx, kind);
        expect_within(dx, expected_gradient,
                      kind == GeluKind::erf ? "erf derivative" : "tanh derivative");
        gelu_backward(ctx, dy, x, dy, kind);
        expect_same_bits(dy, dx, "dx in place of dy");
        gelu_forward(ctx, x, x, kind);
        expect_same_bits(x, y, "y in place of x");
      }
    }
  }
}

TEST(Activation, SwigluMatchesTheDefinition) {
  TensorBox box;
  const Context& ctx = box.context();
  for (const DType dtype : kFloats) {
    for (const int64_t columns : {1, 16, 45, 600}) {
      const Tensor x = inputs(box, dtype, 5, 2 * columns), dy = box.normal(dtype, {5, columns}, 2);
      const Tensor y = box.empty(dtype, {5, columns}), dx = box.empty(dtype, {5, 2 * columns});
      const std::vector<double> v = to_doubles(x), g = to_doubles(dy);
      std::vector<Bounded> expected, expected_gradient(v.size());
      for (int64_t r = 0; r < 5; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          const size_t gate_at = size_t(r * 2 * columns + c), up_at = gate_at + size_t(columns);
          const double gate = v[gate_at], up = v[up_at], d = g[size_t(r * columns + c)];
          const double s = 1 / (1 + std::exp(-gate)), silu = gate * s, slope = s + silu * (1 - s);
          const double relative = gamma(4) + kExpError;
          expected.push_back({silu * up, std::fabs(silu * up) * (relative + gamma(3))});
          const double size = std::fabs(s) + std::fabs(silu);
          expected_gradient[gate_at] = {d * up * slope,
                                        std::fabs(d * up) * size * (2 * relative + gamma(6))};
          expected_gradient[up_at] = {d * silu, std::fabs(d * silu) * (relative + gamma(3))};
        }
      }
      swiglu_forward(ctx, x, y);
      expect_within(y, expected, "swiglu");
      swiglu_backward(ctx, dy, x, dx);
      expect_within(dx, expected_gradient, "swiglu gradient");
      swiglu_backward(ctx, dy, x, x);
      expect_same_bits(x, dx, "gradient in place");
    }
  }
}

// h^2 f''' / 6 with |f'''| < 3 and h = 2^-8 is below 1e-5; the rounding of y over h below 2^-24 4 /
// 2^-7 = 3e-5.
TEST(Activation, BackwardIsTheDerivativeOfForward) {
  TensorBox box;
  const int64_t n = 200;
  const double h = 0x1p-8;
  for (const GeluKind kind : {GeluKind::tanh, GeluKind::erf}) {
    const Tensor low = box.empty(DType::f32, {1, n}), x = box.empty(DType::f32, {1, n}),
                 high = box.empty(DType::f32, {1, n});
    const Tensor one = box.empty(DType::f32, {1, n}), dx = box.empty(DType::f32, {1, n});
    for (int64_t i = 0; i < n; ++i) {
      const float middle = float(std::ldexp(std::round((double(i) - 100) * 0.04 * 256), -8));
      x.ptr<float>()[i] = middle;
      low.ptr<float>()[i] = middle - float(h);
      high.ptr<float>()[i] = middle + float(h);
      one.ptr<float>()[i] = 1.0f;
    }
    gelu_backward(box.context(), one, x, dx, kind);
    gelu_forward(box.context(), low, low, kind);
    gelu_forward(box.context(), high, high, kind);
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_NEAR((double(high.ptr<float>()[i]) - low.ptr<float>()[i]) / (2 * h),
                  dx.ptr<float>()[i], 8e-5);
    }
  }
}

TEST(Activation, NotANumberStaysSo) {
  TensorBox box;
  const Tensor x = box.zeros(DType::f32, {1, 40}), y = box.zeros(DType::f32, {1, 20});
  x.ptr<float>()[3] = x.ptr<float>()[37] = std::nanf("");
  swiglu_forward(box.context(), x, y);
  EXPECT_TRUE(std::isnan(y.ptr<float>()[3]));
  EXPECT_TRUE(std::isnan(y.ptr<float>()[17]));
  for (const GeluKind kind : {GeluKind::tanh, GeluKind::erf}) {
    const Tensor z = box.zeros(DType::f32, {1, 40});
    gelu_forward(box.context(), x, z, kind);
    EXPECT_TRUE(std::isnan(z.ptr<float>()[3])) << int(kind);
    EXPECT_TRUE(std::isnan(z.ptr<float>()[37])) << int(kind);
  }
}

TEST(Activation, RefusesWhatDoesNotFit) {
  TensorBox box;
  const Context& ctx = box.context();
  const Tensor x = box.zeros(DType::f32, {4, 6});
  EXPECT_NE(error_of([&] { swiglu_forward(ctx, x, x); }).find("gate_up must have shape [4, 12]"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              gelu_forward(ctx, x, box.zeros(DType::bf16, {4, 6}), GeluKind::erf);
            }).find("dtype"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              gelu_forward(ctx, box.zeros(DType::i32, {4, 6}), x, GeluKind::erf);
            }).find("fp32 or bf16"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
