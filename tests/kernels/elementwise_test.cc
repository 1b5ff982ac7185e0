// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/elementwise.h"

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

}  // namespace
}  // namespace forja::testing
