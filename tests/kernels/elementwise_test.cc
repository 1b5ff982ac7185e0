// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/elementwise.h"

#include <cmath>

#include "forja/ops/dropout.h"

#include "tests/kernels/gpu_testing.h"

namespace forja::testing {
namespace {

constexpr int64_t kSizes[] = {1, 7, 8, 255, 2048, 2049, 20011};
constexpr DType kFloats[] = {DType::f32, DType::bf16};

TEST(GpuElementwise, Convert) {
  FORJA_REQUIRE_GPU();
  for (const int64_t n : kSizes) {
    for (const DType from : kFloats) {
      for (const DType to : kFloats) {
        TensorBox cpu(1 << 20);
        GpuBox gpu;
        const Tensor x = cpu.normal(from, {n}, uint64_t(n)), y = cpu.empty(to, {n});
        const Tensor out = gpu.empty(to, {n});
        convert(cpu.context(), x, y);
        convert(gpu.context(), gpu.upload(x), out);
        expect_equal(gpu, out, y, "convert");
      }
    }
  }
}

TEST(GpuElementwise, AddAndFill) {
  FORJA_REQUIRE_GPU();
  for (const int64_t n : kSizes) {
    for (const DType dtype : kFloats) {
      TensorBox cpu(1 << 20);
      GpuBox gpu;
      const Tensor a = cpu.normal(dtype, {n}, 1), b = cpu.normal(DType::f32, {n}, 2);
      const Tensor sum = cpu.empty(dtype, {n}), on_gpu = gpu.upload(a);
      add(cpu.context(), a, b, sum);
      add(gpu.context(), on_gpu, gpu.upload(b), on_gpu);
      expect_equal(gpu, on_gpu, sum, "add, in place");
      fill_value(cpu.context(), sum, 1.7f);
      fill_value(gpu.context(), on_gpu, 1.7f);
      expect_equal(gpu, on_gpu, sum, "fill_value");
      fill_zero(cpu.context(), sum);
      fill_zero(gpu.context(), on_gpu);
      expect_equal(gpu, on_gpu, sum, "fill_zero");
    }
  }
}

// A tensor that does not begin at 16 bytes.
TEST(GpuElementwise, Misaligned) {
  FORJA_REQUIRE_GPU();
  TensorBox cpu(1 << 20);
  GpuBox gpu;
  const Tensor x = cpu.normal(DType::bf16, {1001}, 1), y = cpu.empty(DType::f32, {1000});
  const Tensor out = gpu.empty(DType::f32, {1000});
  convert(cpu.context(), x.slice(0, 1, 1001), y);
  convert(gpu.context(), gpu.upload(x).slice(0, 1, 1001), out);
  expect_equal(gpu, out, y, "convert");
}

TEST(GpuElementwise, BiasGradient) {
  FORJA_REQUIRE_GPU();
  constexpr std::pair<int64_t, int64_t> kShapes[] = {
      {1, 1}, {70, 24}, {33, 515}, {3000, 8}, {9, 2048}};
  for (const auto& [rows, columns] : kShapes) {
    for (const DType dtype : kFloats) {
      for (const int64_t gap : {0, 3}) {
        TensorBox cpu(1 << 20);
        GpuBox gpu(1 << 20);
        const Tensor dy = cpu.normal(dtype, {rows, columns + gap}, 1).slice(1, 0, columns);
        const Tensor bias = cpu.normal(DType::f32, {columns}, 2), g_dy = gpu.upload(dy);
        const Tensor found = gpu.upload(bias), again = gpu.upload(bias);
        bias_gradient(cpu.context(), dy, bias);
        bias_gradient(gpu.context(), g_dy, found);
        bias_gradient(gpu.context(), g_dy, again);
        expect_near(gpu, found, bias, "bias gradient");
        gpu.download(found, bias);
        expect_equal(gpu, again, bias, "bias gradient, again");
      }
    }
  }
}

TEST(GpuElementwise, FindNonFinite) {
  FORJA_REQUIRE_GPU();
  for (const int64_t n : kSizes) {
    for (const DType dtype : kFloats) {
      TensorBox cpu(1 << 20);
      GpuBox gpu(1 << 20);
      const Tensor x = cpu.normal(dtype, {n}, 1);
      EXPECT_EQ(find_non_finite(gpu.context(), gpu.upload(x)), -1);
      for (const int64_t at : {n - 1, n * 3 / 4, n / 2}) {
        const float bad[] = {NAN, INFINITY, -INFINITY};
        fill_value(cpu.context(), x.slice(0, at, at + 1), bad[at % 3]);
        EXPECT_EQ(find_non_finite(gpu.context(), gpu.upload(x)), at);
      }
    }
  }
}

// Parts of a larger tensor, which begin anywhere.
TEST(GpuElementwise, RandomNumbers) {
  FORJA_REQUIRE_GPU();
  constexpr uint64_t kKey = 0x123456789abcdefull;
  for (const int64_t n : {1, 3, 8, 1000, 4097}) {
    for (const int64_t first : {int64_t(0), int64_t(3), int64_t(6), (int64_t(1) << 34) + 8}) {
      TensorBox cpu(1 << 20);
      GpuBox gpu(1 << 20);
      const Tensor x = cpu.empty(DType::f32, {n}), g_x = gpu.empty(DType::f32, {n});
      fill_normal(cpu.context(), x, kKey, first, 0.5f, 2.0f);
      fill_normal(gpu.context(), g_x, kKey, first, 0.5f, 2.0f);
      expect_near(gpu, g_x, x, "normal numbers", 1e-7);
      for (const DType dtype : kFloats) {
        const Tensor y = cpu.normal(dtype, {n}, 4), g_y = gpu.upload(y);
        dropout(cpu.context(), y, y, 0.3f, kKey, {first});
        dropout(gpu.context(), g_y, g_y, 0.3f, kKey, {first});
        expect_equal(gpu, g_y, y, "dropout, in place");
        dropout(cpu.context(), y, y, 0.3f, kKey, {first, 2, 5, 37});
        dropout(gpu.context(), g_y, g_y, 0.3f, kKey, {first, 2, 5, 37});
        expect_equal(gpu, g_y, y, "dropout of a block of columns");
        scale(cpu.context(), y, 0.37f, y);
        scale(gpu.context(), g_y, 0.37f, g_y);
        expect_equal(gpu, g_y, y, "scale");
      }
    }
  }
}

}  // namespace
}  // namespace forja::testing
