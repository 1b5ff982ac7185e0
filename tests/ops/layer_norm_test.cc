// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/layer_norm.h"

#include "tests/ops/reference_norm.h"

namespace forja::testing {
namespace {

constexpr float kEps = 1e-5f;

struct Case {
  int64_t r, h;
  DType x, weight;
  bool bias, residual;
};

TEST(LayerNorm, ForwardAndBackwardMatchTheDefinition) {
  TensorBox box;
  const Context& ctx = box.context();
  const DType f32 = DType::f32, bf16 = DType::bf16;
  const Case cases[] = {{1, 1, f32, f32, true, false},     {3, 7, f32, f32, true, true},
                        {5, 64, f32, f32, false, false},   {33, 100, bf16, bf16, true, true},
                        {300, 33, bf16, f32, true, false}, {70, 768, f32, f32, true, true},
                        {4, 47, bf16, bf16, false, true}};
  for (const Case& c : cases) {
    SCOPED_TRACE(std::to_string(c.r) + "x" + std::to_string(c.h) + " " +
                 std::string(dtype_name(c.x)));
    const Tensor x = box.normal(c.x, {c.r, c.h + 3}, 1, 3.0).slice(1, 1, 1 + c.h),
                 w = box.normal(c.weight, {c.h}, 2);
    const Tensor bias = c.bias ? box.normal(c.weight, {c.h}, 6) : Tensor{},
                 y = box.empty(c.x, {c.r, c.h});
    const Tensor mean = box.empty(f32, {c.r}), rstd = box.empty(f32, {c.r}),
                 dy = box.normal(c.x, {c.r, c.h}, 3);
    const Tensor residual = c.residual ? box.normal(c.x, {c.r, c.h}, 4) : Tensor{},
                 dx = box.empty(c.x, {c.r, c.h});
    const Tensor dw = box.normal(f32, {c.h}, 5), db = box.normal(f32, {c.h}, 7);
    NormOracle oracle(NormKind::layer, to_doubles(x), to_doubles(w),
                      c.bias ? to_doubles(bias) : std::vector<double>{}, double(kEps));
    NormReference r = oracle.forward();
    oracle.backward(r, to_doubles(dy), c.residual ? to_doubles(residual) : std::vector<double>{},
                    to_doubles(dw), to_doubles(db));
    layer_norm_forward(ctx, x, w, bias, y, mean, rstd, kEps);
    expect_within(y, r.y, "y");
    expect_within(mean, r.mean, "mean");
    expect_within(rstd, r.rstd, "rstd");
    layer_norm_backward(ctx, dy, x, w, mean, rstd, residual, dx, dw, db);
    expect_within(dx, r.dx, "dx");
    expect_within(dw, r.dw, "dw");
    expect_within(db, r.db, "db");
    layer_norm_backward(ctx, dy, x, w, mean, rstd, residual, dy, {}, {});
    expect_same_bits(dy, dx, "dx in place of dy, frozen weight");
    if (c.residual) {
      const Tensor again = box.normal(c.x, {c.r, c.h}, 3);
      layer_norm_backward(ctx, again, x, w, mean, rstd, residual, residual, {}, {});
      expect_same_bits(residual, dx, "dx in place of the residual gradient");
    }
    layer_norm_forward(ctx, x, w, bias, x, mean, rstd, kEps);
    expect_same_bits(x, y, "y in place of x");
  }
}

TEST(LayerNorm, ResidualInFrontIsAddAndNorm) {
  TensorBox box;
  const Context& ctx = box.context();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t n = 20, h = 50;
    const Tensor x = box.normal(dtype, {n, h}, 1), residual = box.normal(dtype, {n, h}, 2),
                 w = box.normal(dtype, {h}, 3);
    const Tensor bias = box.normal(dtype, {h}, 4), mean = box.empty(DType::f32, {n}),
                 rstd = box.empty(DType::f32, {n});
    const Tensor sum = box.empty(dtype, {n, h}), y = box.empty(dtype, {n, h}),
                 expected = box.empty(dtype, {n, h});
    add_layer_norm_forward(ctx, x, residual, w, bias, sum, y, mean, rstd, kEps);
    const std::vector<double> a = to_doubles(x), b = to_doubles(residual), s = to_doubles(sum);
    for (size_t i = 0; i < a.size(); ++i) {
      const float value = float(a[i]) + float(b[i]);
      ASSERT_EQ(s[i], dtype == DType::f32 ? value : float(BFloat16(value)));
    }
    layer_norm_forward(ctx, sum, w, bias, expected, mean, rstd, kEps);
    expect_same_bits(y, expected, "y");
  }
}

// Large offsets: the variance is computed from deviations, so it does not cancel.
TEST(LayerNorm, KeepsTheVarianceOfValuesFarFromZero) {
  TensorBox box;
  const int64_t h = 512;
  const Tensor x = box.empty(DType::f32, {1, h}), w = box.empty(DType::f32, {h}),
               y = box.empty(DType::f32, {1, h});
  for (int64_t i = 0; i < h; ++i) {
    x.ptr<float>()[i] = 10000.0f + float(i % 2);
    w.ptr<float>()[i] = 1.0f;
  }
  const Tensor mean = box.empty(DType::f32, {1}), rstd = box.empty(DType::f32, {1});
  layer_norm_forward(box.context(), x, w, {}, y, mean, rstd, 0.0f);
  EXPECT_NEAR(mean.ptr<float>()[0], 10000.5, 0.02);
  EXPECT_NEAR(rstd.ptr<float>()[0], 2.0, 0.01);
}

TEST(LayerNorm, AnyNumberOfThreadsGivesTheSameBits) {
  TensorBox box;
  const Context& ctx = box.context();
  const int64_t n = 1500, h = 65;
  const Tensor x = box.normal(DType::f32, {n, h}, 1), w = box.normal(DType::f32, {h}, 2),
               y = box.empty(DType::f32, {n, h});
  const Tensor mean = box.empty(DType::f32, {n}), rstd = box.empty(DType::f32, {n}),
               dy = box.normal(DType::f32, {n, h}, 3);
  const Tensor one = box.zeros(DType::f32, {2, h}), three = box.zeros(DType::f32, {2, h});
  layer_norm_forward(ctx, x, w, {}, y, mean, rstd, kEps);
  with_threads(1, [&] {
    layer_norm_backward(ctx, dy, x, w, mean, rstd, {}, y, one.select(0, 0), one.select(0, 1));
  });
  with_threads(3, [&] {
    layer_norm_backward(ctx, dy, x, w, mean, rstd, {}, y, three.select(0, 0), three.select(0, 1));
  });
  expect_same_bits(one, three, "gradients of weight and bias");
}

TEST(LayerNorm, RefusesWhatDoesNotFit) {
  TensorBox box;
  const Context& ctx = box.context();
  const Tensor x = box.zeros(DType::f32, {4, 6}), w = box.zeros(DType::f32, {6}),
               s = box.zeros(DType::f32, {4});
  EXPECT_NE(error_of([&] {
              layer_norm_forward(ctx, x, w, s, x, s, s, kEps);
            }).find("bias must have shape [6]"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              layer_norm_forward(ctx, x, w, w, box.zeros(DType::bf16, {4, 6}), s, s, kEps);
            }).find("y must have the shape and dtype"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              add_layer_norm_forward(ctx, x, {}, w, w, x, x, s, s, kEps);
            }).find("residual"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
