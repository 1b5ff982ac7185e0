// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/matmul.h"

#include "csrc/ops/cuda/matmul_trial.h"
#include "tests/kernels/gpu_testing.h"
#ifndef FORJA_REAL_GPU
#include "kernels/emulator/emulator.h"
#endif

namespace forja::testing {
namespace {

struct Shape {
  int64_t m, n, k;
};

struct Dtypes {
  DType operands, c;
};

constexpr Dtypes kDtypes[] = {
    {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}, {DType::f32, DType::f32}};

#ifdef FORJA_REAL_GPU
constexpr int64_t kBoxBytes = int64_t(64) << 20;  // a library's scratch too
#else
constexpr int64_t kBoxBytes = int64_t(2) << 20;
#endif

// A real GPU has the op as it is there, perhaps by a library, and the kernels.
enum class Version { op, kernels };

// Every kind of device whose kernels differ for operands of this dtype; a real GPU is what it is.
// `seed`: of the emulator.
void on_devices([[maybe_unused]] DType operands, const std::function<void(Version)>& body,
                [[maybe_unused]] uint64_t seed = 1) {
#ifdef FORJA_REAL_GPU
  for (const Version version : {Version::op, Version::kernels}) {
    SCOPED_TRACE(version == Version::op ? "the op" : "kernels");
    body(version);
  }
#else
  for (const int capability : {80, 90}) {
    if (capability == 80 && operands == DType::f32) continue;
    SCOPED_TRACE("compute capability " + std::to_string(capability));
    emulator::set_compute_capability(capability);
    emulator::set_seed(seed++);
    body(Version::kernels);
  }
#endif
}

// A matrix that lies as [columns, rows] where transposed; its rows begin `pad` elements apart from
// where they would, the first at element `offset`.
Tensor matrix(TensorBox& box, DType dtype, int64_t rows, int64_t columns, bool transposed,
              uint64_t seed, int64_t pad = 0, int64_t offset = 0) {
  const int64_t outer = transposed ? columns : rows, inner = transposed ? rows : columns;
  const Tensor whole = box.normal(dtype, {outer, offset + inner + pad}, seed);
  const Tensor t = whole.slice(1, offset, offset + inner);
  return transposed ? t.transposed() : t;
}

// Both versions of the op, on the same numbers and the same old c; gaps between the rows of c must
// stay as they are.
void compare(Version version, TensorBox& cpu, const Tensor& a, const Tensor& b, const Tensor& c,
             MatmulOutput output, const Tensor& bias) {
  SCOPED_TRACE(a.to_string() + " x " + b.to_string() + " to " + c.to_string());
  GpuBox gpu(kBoxBytes);
  const Tensor x = gpu.upload(a), y = gpu.upload(b), z = gpu.upload(c), v = gpu.upload(bias);
  const int64_t width = c.size(0) > 1 ? c.stride(0) : c.size(1);
  Tensor whole = c, gaps = z;  // rows with what lies between them
  whole.sizes[1] = gaps.sizes[1] = width;
  --whole.sizes[0], --gaps.sizes[0];
  matmul(cpu.context(), a, b, c, output, bias);
  if (version == Version::kernels) gpu.context().gpu_matmul = GpuMatmul::custom;
  matmul(gpu.context(), x, y, z, output, v);
  expect_near(gpu, z, c, "product");
  if (width == c.size(1)) return;
  expect_near(gpu, gaps, whole, "rows with their gaps");
}

void compare_all(const Shape& s, const Dtypes& d, int layout, int64_t pad = 0, int64_t offset = 0) {
  TensorBox box(1 << 22);
  const Tensor a = matrix(box, d.operands, s.m, s.k, layout & 1, 1, pad, offset);
  const Tensor b = matrix(box, d.operands, s.k, s.n, layout & 2, 2, pad, offset);
  const Tensor bias = box.normal(layout & 1 ? DType::f32 : d.operands, {s.n}, 3);
  on_devices(d.operands, [&](Version version) {
    const Tensor c = matrix(box, d.c, s.m, s.n, false, 4, pad, offset);
    compare(version, box, a, b, c, MatmulOutput::overwrite, layout == 3 ? bias : Tensor());
    if (layout == 0) compare(version, box, a, b, c, MatmulOutput::overwrite, bias);
    compare(version, box, a, b, c, MatmulOutput::accumulate, {});
  });
}

class GpuMatmulShapes : public ::testing::TestWithParam<Shape> {};

TEST_P(GpuMatmulShapes, EveryLayoutAndDtype) {
  FORJA_REQUIRE_GPU();
  for (const Dtypes& d : kDtypes)
    for (int layout = 0; layout < 4; ++layout) compare_all(GetParam(), d, layout);
}

INSTANTIATE_TEST_SUITE_P(, GpuMatmulShapes,
                         ::testing::Values(Shape{1, 1, 1}, Shape{7, 9, 5}, Shape{65, 130, 33},
                                           Shape{128, 256, 64}, Shape{200, 304, 136},
                                           Shape{72, 136, 600}),
                         [](const auto& test) {
                           const Shape& s = test.param;
                           return std::to_string(s.m) + "x" + std::to_string(s.n) + "x" +
                                  std::to_string(s.k);
                         });

// Wide tiles, several for each of the emulator's multiprocessors.
TEST(GpuMatmul, ManyTiles) {
  FORJA_REQUIRE_GPU();
  for (int layout = 0; layout < 4; ++layout) {
    compare_all({640, 512, 72}, kDtypes[0], layout);
    compare_all({300, 250, 72}, kDtypes[1], layout, 8);
  }
}

TEST(GpuMatmul, StridesAndMisalignedViews) {
  FORJA_REQUIRE_GPU();
  for (const Dtypes& d : kDtypes) {
    for (int layout = 0; layout < 4; ++layout) {
      compare_all({40, 136, 72}, d, layout, 8);     // rows apart, aligned
      compare_all({40, 131, 70}, d, layout, 5);     // whole rows aligned, but not their ends
      compare_all({40, 136, 72}, d, layout, 7, 1);  // begins off 16 bytes
      compare_all({40, 136, 72}, d, layout, 3, 0);  // rows begin off 16 bytes
    }
  }
}

// Rows and columns that are alone, whose strides mean nothing.
TEST(GpuMatmul, StridesOfSingleRows) {
  FORJA_REQUIRE_GPU();
  for (const Dtypes& d : kDtypes) {
    TensorBox box(1 << 20);
    const Tensor a = box.normal(d.operands, {4, 50}, 1), b = box.normal(d.operands, {50, 60}, 2);
    on_devices(d.operands, [&](Version version) {
      const Tensor c = box.normal(d.c, {4, 70}, 3);
      compare(version, box, a.slice(0, 1, 2), b, c.slice(0, 1, 2).slice(1, 3, 63),
              MatmulOutput::overwrite, {});
      compare(version, box, b.slice(1, 7, 8).transposed(), a.transposed(),
              c.slice(0, 2, 3).slice(1, 0, 4), MatmulOutput::accumulate, {});
      compare(version, box, a.slice(1, 5, 6), b.slice(0, 9, 10), c.slice(1, 8, 68),
              MatmulOutput::overwrite, {});
    });
  }
}

TEST(GpuMatmul, NothingToSum) {
  FORJA_REQUIRE_GPU();
  for (const Dtypes& d : kDtypes) {
    TensorBox box(1 << 20);
    const Tensor a = box.empty(d.operands, {5, 0}), b = box.empty(d.operands, {0, 40});
    on_devices(d.operands, [&](Version version) {
      const Tensor c = box.normal(d.c, {5, 40}, 1);
      compare(version, box, a, b, c, MatmulOutput::accumulate, {});
      compare(version, box, a, b, c, MatmulOutput::overwrite, box.normal(DType::f32, {40}, 2));
    });
  }
}

// ---- Epilogues

enum class Activation { gelu_tanh, gelu_erf, swiglu };
constexpr Activation kActivations[] = {Activation::gelu_tanh, Activation::gelu_erf,
                                       Activation::swiglu};

GeluKind kind_of(Activation f) {
  return f == Activation::gelu_erf ? GeluKind::erf : GeluKind::tanh;
}

struct Product {
  Tensor a, b, c, y, bias;
};

void run_fused(const Context& ctx, Activation f, const Product& p) {
  if (f == Activation::swiglu) return matmul_swiglu(ctx, p.a, p.b, p.c, p.y, p.bias);
  matmul_gelu(ctx, p.a, p.b, p.c, p.y, kind_of(f), p.bias);
}

void run_apart(const Context& ctx, Activation f, const Product& p) {
  matmul(ctx, p.a, p.b, p.c, MatmulOutput::overwrite, p.bias);
  if (f == Activation::swiglu) return swiglu_forward(ctx, p.c, p.y);
  gelu_forward(ctx, p.c, p.y, kind_of(f));
}

// A view's rows with what lies between them; the last row is left out.
Tensor with_gaps(Tensor t) {
  t.sizes[1] = t.stride(0);
  --t.sizes[0];
  return t;
}

// The fused op beside the two ops, bit for bit with our kernels, gaps between rows too; and beside
// the CPU's. `whole` are the tensors that c and y are views of.
void compare_fused(Version version, TensorBox& cpu, Activation f, const Product& p) {
  SCOPED_TRACE(p.a.to_string() + " x " + p.b.to_string() + " to " + p.c.to_string() + " and " +
               p.y.to_string() + ", activation " + std::to_string(int(f)));
  GpuBox gpu(kBoxBytes);
  if (version == Version::kernels) gpu.context().gpu_matmul = GpuMatmul::custom;
  const auto upload = [&] {
    return Product{gpu.upload(p.a), gpu.upload(p.b), gpu.upload(p.c), gpu.upload(p.y),
                   gpu.upload(p.bias)};
  };
  const Product fused = upload(), apart = upload();
  run_fused(gpu.context(), f, fused);
  if (version == Version::kernels) {
    run_apart(gpu.context(), f, apart);
    for (const auto& [found, expected] : {std::pair{fused.c, apart.c}, {fused.y, apart.y}}) {
      const Tensor copy = cpu.zeros(expected.dtype, {expected.size(0), expected.stride(0)});
      const Tensor host = copy.slice(1, 0, expected.size(1));
      gpu.download(expected, host);
      expect_equal(gpu, found, host, "beside the ops apart");
      if (expected.size(0) > 1 && expected.stride(0) > expected.size(1))
        expect_equal(gpu, with_gaps(found), with_gaps(host), "gaps beside the ops apart");
    }
  }
  run_fused(cpu.context(), f, p);
  expect_near(gpu, fused.c, p.c, "product");
  expect_near(gpu, fused.y, p.y, "activation");
}

// n: columns of y.
void compare_fused_all(const Shape& s, const Dtypes& d, int layout, int64_t pad = 0,
                       int64_t offset = 0, uint64_t seed = 1) {
  for (const Activation f : kActivations) {
    const int64_t n = f == Activation::swiglu ? 2 * s.n : s.n;
    const auto compare_with_and_without_bias = [&](Version version) {
      TensorBox box(1 << 22);
      const Tensor bias = box.normal(f == Activation::gelu_tanh ? d.operands : DType::f32, {n}, 3);
      for (const Tensor& with : {Tensor(), bias}) {
        const Product p = {matrix(box, d.operands, s.m, s.k, layout & 1, 1, pad, offset),
                           matrix(box, d.operands, s.k, n, layout & 2, 2, pad, offset),
                           matrix(box, d.c, s.m, n, false, 4, pad, offset),
                           matrix(box, d.c, s.m, s.n, false, 5, pad, offset), with};
        compare_fused(version, box, f, p);
      }
    };
    on_devices(d.operands, compare_with_and_without_bias, seed);
  }
}

constexpr int kForward = 2;  // the layout of y = x w^T

class GpuMatmulEpilogues : public ::testing::TestWithParam<Shape> {};

TEST_P(GpuMatmulEpilogues, EveryDtype) {
  FORJA_REQUIRE_GPU();
  for (const Dtypes& d : kDtypes) compare_fused_all(GetParam(), d, kForward);
}

INSTANTIATE_TEST_SUITE_P(, GpuMatmulEpilogues,
                         ::testing::Values(Shape{1, 1, 1}, Shape{7, 9, 5}, Shape{65, 130, 33},
                                           Shape{128, 128, 64}, Shape{200, 152, 72},
                                           Shape{72, 72, 264}),
                         [](const auto& test) {
                           const Shape& s = test.param;
                           return std::to_string(s.m) + "x" + std::to_string(s.n) + "x" +
                                  std::to_string(s.k);
                         });

TEST(GpuMatmul, EpiloguesInOtherLayouts) {
  FORJA_REQUIRE_GPU();
  for (const Dtypes& d : kDtypes)
    for (const int layout : {0, 1, 3}) compare_fused_all({40, 72, 40}, d, layout);
}

TEST(GpuMatmul, EpiloguesWithStridesAndMisalignedViews) {
  FORJA_REQUIRE_GPU();
  for (const Dtypes& d : kDtypes) {
    compare_fused_all({144, 136, 40}, d, kForward, 8);    // rows apart, aligned
    compare_fused_all({40, 68, 40}, d, kForward, 8);      // halves begin off 16 bytes
    compare_fused_all({40, 131, 38}, d, kForward, 5);     // rows aligned, but not their ends
    compare_fused_all({40, 136, 40}, d, kForward, 7, 1);  // begins off 16 bytes
    compare_fused_all({40, 136, 40}, d, kForward, 3, 0);  // rows begin off 16 bytes
  }
}

// Wide tiles of Hopper's kernel and narrow ones, several for each of the emulator's
// multiprocessors.
TEST(GpuMatmul, EpiloguesOfManyTiles) {
  FORJA_REQUIRE_GPU();
  for (const uint64_t seed : {11, 12}) {
    compare_fused_all({264, 248, 136}, kDtypes[0], kForward, 0, 0, seed);
    compare_fused_all({264, 264, 136}, kDtypes[0], kForward, 0, 0, seed);
  }
}

TEST(GpuMatmul, EpiloguesOfNothingToSum) {
  FORJA_REQUIRE_GPU();
  for (const Dtypes& d : kDtypes) compare_fused_all({5, 40, 0}, d, kForward);
}

// What `kernels.matmul: auto` times has memory for all of its operands, whatever the layout.
TEST(GpuMatmul, TrialsOfEveryWay) {
  FORJA_REQUIRE_GPU();
  using kernels::MatmulEpilogue;
  const Device gpu{DeviceKind::cuda, 0};
  for (const Dtypes& d : kDtypes) {
    for (const bool along_k : {true, false}) {
      kernels::MatmulProblem p = {.m = 70,
                                  .n = 136,
                                  .k = 40,
                                  .dtype = d.operands,
                                  .a = {nullptr, along_k, along_k ? 48 : 72},
                                  .b = {nullptr, along_k, along_k ? 40 : 136},
                                  .c_dtype = d.c,
                                  .c_stride = 144,
                                  .accumulate = !along_k,
                                  .bias_dtype = d.c};
      if (along_k) p.epilogue = MatmulEpilogue::swiglu, p.y_stride = 72;
      const auto trial = cuda::make_trial(gpu, p, along_k);
      std::vector<MatmulWay> ways = trial->ways();
      for (const MatmulWay& way : ways) EXPECT_FALSE(way.custom) << "not shown faster";
      ways.push_back({.custom = true});
      for (const MatmulWay& way : ways) EXPECT_GT(trial->seconds(way), 0.0);
    }
  }
}

#ifndef FORJA_REAL_GPU
TEST(GpuMatmul, LibraryThatIsNotThere) {
  TensorBox cpu(1 << 20);
  GpuBox gpu(int64_t(40) << 20);
  const Tensor x = gpu.upload(cpu.normal(DType::f32, {4, 4}, 1)), y = gpu.empty(DType::f32, {4, 4});
  gpu.context().gpu_matmul = GpuMatmul::cublaslt;
  const std::string error = error_of([&] { matmul(gpu.context(), x, x, y); }, ExitCode::bad_input);
  EXPECT_NE(error.find("kernels.matmul is cublaslt"), std::string::npos) << error;
  gpu.context().gpu_matmul = GpuMatmul::automatic;
  matmul(gpu.context(), x, x, y);
}
#endif

}  // namespace
}  // namespace forja::testing
