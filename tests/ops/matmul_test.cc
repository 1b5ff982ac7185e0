// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/matmul.h"

#include <string>

#include "csrc/ops/cpu/gemm.h"
#include "csrc/ops/cpu/matmul_route.h"
#include "csrc/ops/cpu/onednn.h"
#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

using Function = void (*)(const Context&, const Tensor&, const Tensor&, const Tensor&, MatmulOutput,
                          const Tensor&);

struct Implementation {
  const char* name;
  Function function;
};

struct Shape {
  int64_t m, n, k;
};

// The product and its bound: K products, the bias or the old c, and once more for blocks of K
// summed apart.
std::vector<Bounded> reference(const Tensor& a, const Tensor& b, const Tensor& c,
                               MatmulOutput output, const Tensor& bias) {
  const std::vector<double> x = to_doubles(a), y = to_doubles(b), old = to_doubles(c);
  const std::vector<double> add =
      bias.defined() ? to_doubles(bias) : std::vector<double>(size_t(c.size(1)), 0.0);
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  std::vector<Bounded> out(size_t(m * n));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      Bounded& r = out[size_t(i * n + j)];
      r.value = output == MatmulOutput::accumulate ? old[size_t(i * n + j)] : add[size_t(j)];
      double size = std::fabs(r.value);
      for (int64_t p = 0; p < k; ++p) {
        const double product = x[size_t(i * k + p)] * y[size_t(p * n + j)];
        r.value += product;
        size += std::fabs(product);
      }
      r.bound = gamma(double(k) + 4) * size;
    }
  }
  return out;
}

class MatmulTest : public ::testing::TestWithParam<Implementation> {};

TEST_P(MatmulTest, MatchesTheDefinitionInEveryLayout) {
  const Shape shapes[] = {{1, 1, 1},     {1, 33, 70}, {5, 7, 300},   {14, 32, 16},
                          {37, 65, 259}, {64, 31, 1}, {100, 130, 40}};
  for (const Shape& s : shapes) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (int layout = 0; layout < 4; ++layout) {
        for (const DType out : {DType::f32, dtype}) {
          TensorBox box(int64_t(1) << 26);
          const Tensor a = layout & 1 ? box.normal(dtype, {s.k, s.m}, 1).transposed()
                                      : box.normal(dtype, {s.m, s.k}, 1);
          const Tensor b = layout & 2 ? box.normal(dtype, {s.n, s.k}, 2).transposed()
                                      : box.normal(dtype, {s.k, s.n}, 2);
          const Tensor c = box.normal(out, {s.m, s.n}, 3);
          const Tensor bias = box.normal(layout & 1 ? DType::f32 : dtype, {s.n}, 4);
          SCOPED_TRACE(a.to_string() + " x " + b.to_string() + " to " + c.to_string());
          std::vector<Bounded> expected = reference(a, b, c, MatmulOutput::accumulate, {});
          GetParam().function(box.context(), a, b, c, MatmulOutput::accumulate, {});
          expect_within(c, expected, "accumulated");
          expected = reference(a, b, c, MatmulOutput::overwrite, {});
          GetParam().function(box.context(), a, b, c, MatmulOutput::overwrite, {});
          expect_within(c, expected, "overwritten");
          expected = reference(a, b, c, MatmulOutput::overwrite, bias);
          GetParam().function(box.context(), a, b, c, MatmulOutput::overwrite, bias);
          expect_within(c, expected, "with bias");
        }
      }
    }
  }
}

TEST_P(MatmulTest, RowsMayHaveAStride) {
  TensorBox box(int64_t(1) << 26);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor a = box.normal(dtype, {50, 90}, 1).slice(1, 3, 70),
                 b = box.normal(dtype, {67, 80}, 2).slice(1, 7, 60);
    const Tensor whole = box.normal(dtype, {50, 70}, 3), c = whole.slice(1, 8, 61);
    const std::vector<double> before = to_doubles(whole);
    GetParam().function(box.context(), a, b, c, MatmulOutput::overwrite, {});
    expect_within(c, reference(a, b, c, MatmulOutput::overwrite, {}), "strided");
    const std::vector<double> after = to_doubles(whole);
    for (size_t i = 0; i < after.size(); ++i) {
      if (i % 70 < 8 || i % 70 >= 61) {
        ASSERT_EQ(before[i], after[i]) << "written outside c at " << i;
      }
    }
  }
}

TEST_P(MatmulTest, BlocksOfEveryDimJoin) {
  // More than one block and strip each way in the own implementation.
  TensorBox box(int64_t(1) << 28);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Shape& s : {Shape{3, 20, 2100}, Shape{40, 3200, 17}, Shape{1200, 33, 20}}) {
      const Tensor a = box.normal(dtype, {s.m, s.k}, 1),
                   b = box.normal(dtype, {s.n, s.k}, 2).transposed();
      const Tensor c = box.normal(dtype, {s.m, s.n}, 3);
      const std::vector<Bounded> expected = reference(a, b, c, MatmulOutput::accumulate, {});
      GetParam().function(box.context(), a, b, c, MatmulOutput::accumulate, {});
      expect_within(c, expected, "blocked");
    }
  }
}

TEST_P(MatmulTest, RepeatsBitForBitAndPlansItsScratch) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    TensorBox box(int64_t(1) << 26);
    const Tensor a = box.normal(dtype, {130, 300}, 1),
                 b = box.normal(dtype, {90, 300}, 2).transposed();
    const Tensor c = box.zeros(dtype, {130, 90}), d = box.zeros(dtype, {130, 90});
    GetParam().function(box.context(), a, b, c, MatmulOutput::overwrite, {});
    GetParam().function(box.context(), a, b, d, MatmulOutput::overwrite, {});
    expect_same_bits(c, d, "second run");
    const int64_t planned = planned_bytes([&](const Context& ctx) {
      GetParam().function(ctx, a, b, c, MatmulOutput::overwrite, {});
    });
    EXPECT_EQ(planned, box.context().workspace->peak_bytes());
  }
}

INSTANTIATE_TEST_SUITE_P(Implementations, MatmulTest,
                         ::testing::Values(Implementation{"op", matmul},
                                           Implementation{"own", cpu::gemm},
                                           Implementation{"onednn", cpu::onednn_matmul}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Matmul, OwnImplementationDoesNotDependOnTheThreads) {
  TensorBox box(int64_t(1) << 28);
  const Tensor a = box.normal(DType::bf16, {1500, 400}, 1).transposed(),
               b = box.normal(DType::bf16, {1500, 900}, 2);
  const Tensor c = box.zeros(DType::f32, {400, 900}), d = box.zeros(DType::f32, {400, 900});
  with_threads(1, [&] { cpu::gemm(box.context(), a, b, c, MatmulOutput::accumulate, {}); });
  with_threads(3, [&] { cpu::gemm(box.context(), a, b, d, MatmulOutput::accumulate, {}); });
  expect_same_bits(c, d, "three threads");
}

TEST(Matmul, EmptyDims) {
  TensorBox box(int64_t(1) << 26);
  const Tensor c = box.normal(DType::f32, {3, 4}, 1), kept = box.normal(DType::f32, {3, 4}, 1);
  const Tensor bias = box.normal(DType::f32, {4}, 2);
  const Tensor a = box.empty(DType::f32, {3, 0}), b = box.empty(DType::f32, {0, 4});
  matmul(box.context(), a, b, c, MatmulOutput::accumulate);
  expect_same_bits(c, kept, "K = 0 adds nothing");
  matmul(box.context(), a, b, c, MatmulOutput::overwrite, bias);
  for (int64_t i = 0; i < 3; ++i) expect_same_bits(c.select(0, i), bias, "K = 0 leaves the bias");
  matmul(box.context(), a, b, c);
  for (double x : to_doubles(c)) EXPECT_EQ(x, 0);
  matmul(box.context(), box.empty(DType::f32, {0, 3}), c, box.empty(DType::f32, {0, 4}));
}

TEST(Matmul, ActivationsAreThoseOfTheStoredProduct) {
  TensorBox box(int64_t(1) << 26);
  const Context& ctx = box.context();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor x = box.normal(dtype, {37, 50}, 1), w = box.normal(dtype, {66, 50}, 2);
    const Tensor whole = box.zeros(dtype, {37, 150}), c = whole.slice(1, 8, 74),
                 y = whole.slice(1, 80, 146), half = whole.slice(1, 80, 113);
    const Tensor product = box.zeros(dtype, {37, 66}), activation = box.zeros(dtype, {37, 66}),
                 gated = box.zeros(dtype, {37, 33});
    for (const Tensor& bias : {Tensor(), box.normal(dtype, {66}, 3)}) {
      matmul(ctx, x, w.transposed(), product, MatmulOutput::overwrite, bias);
      for (const GeluKind kind : {GeluKind::tanh, GeluKind::erf}) {
        matmul_gelu(ctx, x, w.transposed(), c, y, kind, bias);
        gelu_forward(ctx, product, activation, kind);
        expect_same_bits(c, product, "product of gelu");
        expect_same_bits(y, activation, "gelu");
      }
      matmul_swiglu(ctx, x, w.transposed(), c, half, bias);
      swiglu_forward(ctx, product, gated);
      expect_same_bits(c, product, "product of swiglu");
      expect_same_bits(half, gated, "swiglu");
    }
  }
}

TEST(Matmul, ActivationsPlanTheirScratch) {
  TensorBox box(int64_t(1) << 26);
  const Tensor x = box.normal(DType::f32, {130, 300}, 1), w = box.normal(DType::f32, {90, 300}, 2),
               c = box.zeros(DType::f32, {130, 90}), y = box.zeros(DType::f32, {130, 90});
  const auto run = [&](const Context& ctx) {
    matmul_gelu(ctx, x, w.transposed(), c, y, GeluKind::tanh);
    matmul_swiglu(ctx, x, w.transposed(), c, y.slice(1, 0, 45));
  };
  run(box.context());
  EXPECT_EQ(planned_bytes(run), box.context().workspace->peak_bytes());
  const Tensor none = box.empty(DType::f32, {0, 300}), empty = box.empty(DType::f32, {0, 90});
  matmul_gelu(box.context(), none, w.transposed(), empty, empty, GeluKind::erf);
}

TEST(Matmul, RouteFollowsMachineAndStrides) {
  using cpu::MatmulRoute;
  const auto route = [](bool x86, bool fast_bf16, const Tensor& a, const Tensor& b) {
    return cpu::matmul_route({.x86 = x86, .fast_bf16 = fast_bf16}, a, b);
  };
  const auto matrix = [](DType dtype, int64_t rows, int64_t columns) {
    return make_tensor(nullptr, dtype, {rows, columns});
  };
  const Tensor a16 = matrix(DType::bf16, 512, 768), a32 = matrix(DType::f32, 512, 768);
  const Tensor b16 = matrix(DType::bf16, 768, 3072), b32 = matrix(DType::f32, 768, 3072);
  EXPECT_EQ(route(true, true, a16, b16), MatmulRoute::onednn);
  EXPECT_EQ(route(true, false, a16, b16), MatmulRoute::own);
  EXPECT_EQ(route(true, false, a16.slice(0, 0, 32), b16), MatmulRoute::onednn);
  EXPECT_EQ(route(false, false, a16, b16), MatmulRoute::own);
  // Rows of b 12 KiB apart; the same transposed; 8 KiB.
  EXPECT_EQ(route(true, false, a32, b32), MatmulRoute::own);
  EXPECT_EQ(route(true, false, a32, matrix(DType::f32, 3072, 768).transposed()),
            MatmulRoute::onednn);
  EXPECT_EQ(route(true, false, a32, matrix(DType::f32, 768, 2048)), MatmulRoute::onednn);
  EXPECT_EQ(route(false, false, a32, b32.slice(1, 0, 768)), MatmulRoute::own);
}

TEST(Matmul, RefusesWhatDoesNotFit) {
  TensorBox box(int64_t(1) << 26);
  const Tensor a = box.zeros(DType::f32, {4, 6}), b = box.zeros(DType::f32, {6, 8}),
               c = box.zeros(DType::f32, {4, 8});
  const auto message = [&](const Tensor& x, const Tensor& y, const Tensor& z, MatmulOutput o,
                           const Tensor& bias) {
    return error_of([&] { matmul(box.context(), x, y, z, o, bias); });
  };
  const MatmulOutput overwrite = MatmulOutput::overwrite;
  EXPECT_NE(message(a, c, c, overwrite, {}).find("do not fit"), std::string::npos);
  EXPECT_NE(message(a, box.zeros(DType::bf16, {6, 8}), c, overwrite, {}).find("do not fit"),
            std::string::npos);
  EXPECT_NE(message(a, b, box.zeros(DType::bf16, {4, 8}), overwrite, {}).find("c must be fp32"),
            std::string::npos);
  EXPECT_NE(message(a, b, box.zeros(DType::f32, {4, 7}), overwrite, {}).find("shape [4, 8]"),
            std::string::npos);
  EXPECT_NE(message(a, b, c, MatmulOutput::accumulate, box.zeros(DType::f32, {8})).find("bias"),
            std::string::npos);
  const auto activated = [&](const Tensor& y) {
    return error_of([&] { matmul_gelu(box.context(), a, b, c, y, GeluKind::erf); });
  };
  EXPECT_NE(activated(box.zeros(DType::f32, {4, 4})).find("y must have shape [4, 8]"),
            std::string::npos);
  EXPECT_NE(activated(box.zeros(DType::bf16, {4, 8})).find("y must be"), std::string::npos);
  EXPECT_NE(error_of([&] { matmul_swiglu(box.context(), a, b, c, c); }).find("shape [4, 4]"),
            std::string::npos);
  const Tensor odd = box.zeros(DType::f32, {6, 7}), c_odd = box.zeros(DType::f32, {4, 7});
  EXPECT_NE(error_of([&] { matmul_swiglu(box.context(), a, odd, c_odd, c); }).find("halves"),
            std::string::npos);
  const Tensor gaps = box.zeros(DType::f32, {4, 2, 6}).select(1, 0).transposed();
  EXPECT_EQ(gaps.stride(0), 1);
  Tensor both = box.zeros(DType::f32, {8, 12}).slice(0, 0, 4);
  both.strides[1] = 2;
  both.sizes[1] = 6;
  EXPECT_NE(message(both, b, c, overwrite, {}).find("one stride of a must be 1"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
