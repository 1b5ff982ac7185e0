// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/rope.h"

#include <cmath>

#include "tests/kernels/gpu_testing.h"

namespace forja::testing {
namespace {

std::vector<int32_t> some_positions(int64_t n, int64_t limit) {
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < n; ++i) positions.push_back(int32_t(i * 7 % limit));
  return positions;
}

// The queries of a fused projection: heads [begin, end) of all.
void compare(DType dtype, int64_t tokens, int64_t heads, int64_t begin, int64_t end, int64_t d) {
  constexpr int64_t kPositions = 40;
  TensorBox cpu(4 << 20);
  GpuBox gpu(4 << 20);
  const Tensor x = cpu.normal(dtype, {tokens, heads, d}, 1), g_x = gpu.upload(x);
  const Tensor positions = cpu.from(some_positions(tokens, kPositions), {tokens});
  const Tensor cos = cpu.normal(DType::f32, {kPositions, d / 2}, 2);
  const Tensor sin = cpu.normal(DType::f32, {kPositions, d / 2}, 3);
  for (const RopeDirection direction : {RopeDirection::forward, RopeDirection::backward}) {
    rope(cpu.context(), x.slice(1, begin, end), positions, cos, sin, direction);
    rope(gpu.context(), g_x.slice(1, begin, end), gpu.upload(positions), gpu.upload(cos),
         gpu.upload(sin), direction);
    expect_near(gpu, g_x, x, "rope and the other heads");
  }
}

TEST(GpuRope, Rotates) {
  FORJA_REQUIRE_GPU();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    compare(dtype, 5, 1, 0, 1, 2);
    compare(dtype, 9, 3, 0, 2, 64);
    compare(dtype, 3, 12, 1, 9, 80);
    compare(dtype, 3, 5, 1, 5, 22);
    compare(dtype, 2, 40, 0, 33, 128);
    compare(dtype, 1, 1, 0, 1, 5000);
  }
}

TEST(GpuRope, UnknownPositions) {
  FORJA_REQUIRE_GPU();
  TensorBox cpu(1 << 16);
  GpuBox gpu(1 << 16);
  const Tensor x = cpu.normal(DType::f32, {3, 1, 4}, 1), g_x = gpu.upload(x);
  const Tensor cos = gpu.upload(cpu.normal(DType::f32, {2, 2}, 2));
  rope(gpu.context(), g_x, gpu.upload(cpu.from(std::vector<int32_t>{-1, 2, 1}, {3})), cos, cos,
       RopeDirection::forward);
  gpu.download(g_x, x);
  for (int i = 0; i < 12; ++i) EXPECT_EQ(std::isnan(x.ptr<float>()[i]), i < 8) << i;
}

}  // namespace
}  // namespace forja::testing
