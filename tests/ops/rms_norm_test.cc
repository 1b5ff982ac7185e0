// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/rms_norm.h"

#include "tests/ops/reference_norm.h"

namespace forja::testing {
namespace {

constexpr float kEps = 1e-5f;
struct Shape {
  int64_t r, h;
};
constexpr Shape kShapes[] = {{1, 1}, {3, 7}, {5, 64}, {33, 100}, {300, 33}};

// weight's dtype: that of x, or fp32.
struct Dtypes {
  DType x, weight;
};
constexpr Dtypes kDtypes[] = {
    {DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}};

TEST(RmsNorm, ForwardAndBackwardMatchTheDefinition) {
  TensorBox box;
  const Context& ctx = box.context();
  for (const Shape& s : kShapes) {
    for (const Dtypes& d : kDtypes) {
      for (const bool with_residual : {false, true}) {
        SCOPED_TRACE(std::to_string(s.r) + "x" + std::to_string(s.h) + " " +
                     std::string(dtype_name(d.x)));
        const Tensor x = box.normal(d.x, {s.r, s.h + 3}, 1, 3.0).slice(1, 1, 1 + s.h);
        const Tensor w = box.normal(d.weight, {s.h}, 2), y = box.empty(d.x, {s.r, s.h});
        const Tensor rstd = box.empty(DType::f32, {s.r}), dy = box.normal(d.x, {s.r, s.h}, 3);
        const Tensor residual = with_residual ? box.normal(d.x, {s.r, s.h}, 4) : Tensor{};
        const Tensor dx = box.empty(d.x, {s.r, s.h}), dw = box.normal(DType::f32, {s.h}, 5);
        NormOracle oracle(NormKind::rms, to_doubles(x), to_doubles(w), {}, double(kEps));
        NormReference r = oracle.forward();
        const std::vector<double> extra =
            with_residual ? to_doubles(residual) : std::vector<double>{};
        oracle.backward(r, to_doubles(dy), extra, to_doubles(dw), to_doubles(dw));
        rms_norm_forward(ctx, x, w, y, rstd, kEps);
        expect_within(y, r.y, "y");
        expect_within(rstd, r.rstd, "rstd");
        rms_norm_backward(ctx, dy, x, w, rstd, residual, dx, dw);
        expect_within(dx, r.dx, "dx");
        expect_within(dw, r.dw, "dw");
        rms_norm_backward(ctx, dy, x, w, rstd, residual, dy, {});
        expect_same_bits(dy, dx, "dx in place of dy, frozen weight");
        rms_norm_forward(ctx, x, w, x, rstd, kEps);
        expect_same_bits(x, y, "y in place of x");
      }
    }
  }
}

TEST(RmsNorm, ResidualInFrontIsAddAndNorm) {
  TensorBox box;
  const Context& ctx = box.context();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t n = 20, h = 50;
    const Tensor x = box.normal(dtype, {n, h}, 1), residual = box.normal(dtype, {n, h}, 2),
                 w = box.normal(dtype, {h}, 3);
    const Tensor sum = box.empty(dtype, {n, h}), y = box.empty(dtype, {n, h}),
                 rstd = box.empty(DType::f32, {n});
    const Tensor expected_sum = box.empty(dtype, {n, h}), expected = box.empty(dtype, {n, h});
    const std::vector<double> a = to_doubles(x), b = to_doubles(residual);
    for (size_t i = 0; i < a.size(); ++i) {
      const float value = float(a[i]) + float(b[i]);
      if (dtype == DType::f32) expected_sum.ptr<float>()[i] = value;
      if (dtype == DType::bf16) expected_sum.ptr<BFloat16>()[i] = BFloat16(value);
    }
    rms_norm_forward(ctx, expected_sum, w, expected, rstd, kEps);
    add_rms_norm_forward(ctx, x, residual, w, sum, y, rstd, kEps);
    expect_same_bits(sum, expected_sum, "sum");
    expect_same_bits(y, expected, "y");
    add_rms_norm_forward(ctx, x, residual, w, residual, y, rstd, kEps);
    expect_same_bits(residual, expected_sum, "sum in place of the residual");
    expect_same_bits(y, expected, "y beside it");
  }
}

TEST(RmsNorm, HeadsOfAFusedTensor) {
  TensorBox box;
  const Context& ctx = box.context();
  const Tensor qkv = box.normal(DType::bf16, {9, 8, 40}, 1), heads = qkv.slice(1, 2, 5),
               w = box.normal(DType::f32, {40}, 2);
  const Tensor rstd = box.empty(DType::f32, {27}), y = box.empty(DType::bf16, {9, 3, 40});
  NormOracle oracle(NormKind::rms, to_doubles(heads), to_doubles(w), {}, double(kEps));
  rms_norm_forward(ctx, heads, w, y, rstd, kEps);
  expect_within(y, oracle.forward().y, "y");
  const std::vector<double> before = to_doubles(qkv.slice(1, 5, 8));
  rms_norm_forward(ctx, heads, w, heads, rstd, kEps);
  expect_same_bits(heads, y, "in place");
  EXPECT_EQ(to_doubles(qkv.slice(1, 5, 8)), before);
}

TEST(RmsNorm, AnyNumberOfThreadsGivesTheSameBits) {
  TensorBox box;
  const Context& ctx = box.context();
  const int64_t n = 1500, h = 65;
  const Tensor x = box.normal(DType::f32, {n, h}, 1), w = box.normal(DType::f32, {h}, 2),
               y = box.empty(DType::f32, {n, h});
  const Tensor rstd = box.empty(DType::f32, {n}), dy = box.normal(DType::f32, {n, h}, 3),
               dx = box.empty(DType::f32, {n, h});
  const Tensor one = box.zeros(DType::f32, {h}), three = box.zeros(DType::f32, {h});
  rms_norm_forward(ctx, x, w, y, rstd, kEps);
  with_threads(1, [&] { rms_norm_backward(ctx, dy, x, w, rstd, {}, dx, one); });
  with_threads(3, [&] { rms_norm_backward(ctx, dy, x, w, rstd, {}, dx, three); });
  expect_same_bits(one, three, "weight gradient");
}

TEST(RmsNorm, RefusesWhatDoesNotFit) {
  TensorBox box;
  const Context& ctx = box.context();
  const Tensor x = box.zeros(DType::f32, {4, 6}), w = box.zeros(DType::f32, {6}),
               rstd = box.zeros(DType::f32, {4});
  EXPECT_NE(error_of([&] {
              rms_norm_forward(ctx, x, box.zeros(DType::f32, {5}), x, rstd, kEps);
            }).find("shape [6]"),
            std::string::npos);
  EXPECT_NE(error_of([&] { rms_norm_forward(ctx, x, w, x, w, kEps); }).find("shape [4]"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              rms_norm_forward(ctx, x, box.zeros(DType::bf16, {6}), x, rstd, kEps);
            }).find("fp32"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              rms_norm_forward(ctx, x.transposed(), rstd, x.transposed(), w, kEps);
            }).find("contiguous"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
