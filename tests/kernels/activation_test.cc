// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/activation.h"

#include "tests/kernels/gpu_testing.h"

namespace forja::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16};
struct Shape {
  int64_t rows, columns, padding;
};
constexpr Shape kShapes[] = {{1, 1, 0}, {5, 40, 0}, {33, 8, 8}, {3, 2500, 0}, {7, 131, 5}};

// Of a matrix with gaps between the rows.
Tensor matrix(TensorBox& box, DType dtype, int64_t rows, int64_t columns, int64_t padding,
              uint64_t seed) {
  return box.normal(dtype, {rows, columns + padding}, seed, 3.0).slice(1, 0, columns);
}

TEST(GpuActivation, Gelu) {
  FORJA_REQUIRE_GPU();
  for (const auto& [n, f, padding] : kShapes) {
    for (const DType dtype : kFloats) {
      for (const GeluKind kind : {GeluKind::tanh, GeluKind::erf}) {
        TensorBox cpu(1 << 20);
        GpuBox gpu(1 << 20);
        const Tensor x = matrix(cpu, dtype, n, f, padding, 1);
        const Tensor dy = matrix(cpu, dtype, n, f, padding, 2);
        const Tensor y = matrix(cpu, dtype, n, f, padding, 3), g_y = gpu.upload(y);
        const Tensor g_x = gpu.upload(x), g_dy = gpu.upload(dy);
        gelu_forward(cpu.context(), x, y, kind);
        gelu_forward(gpu.context(), g_x, g_y, kind);
        expect_near(gpu, g_y, y, "gelu");
        gelu_backward(cpu.context(), dy, x, y, kind);
        gelu_backward(gpu.context(), g_dy, g_x, g_dy, kind);
        expect_near(gpu, g_dy, y, "gelu backward, in place");
      }
    }
  }
}

// The small values far to the left keep their relative accuracy; large ones have limits.
TEST(GpuActivation, GeluTails) {
  FORJA_REQUIRE_GPU();
  for (const GeluKind kind : {GeluKind::tanh, GeluKind::erf}) {
    for (const float value : {-12.0f, -9.0f, -5.0f, -1e-6f, 1e-20f, 9.0f, 200.0f, -200.0f}) {
      TensorBox cpu(1 << 16);
      GpuBox gpu(1 << 16);
      const Tensor x = cpu.from(std::vector<float>{value}, {1, 1}),
                   y = cpu.empty(DType::f32, {1, 1});
      const Tensor g_x = gpu.upload(x);
      gelu_forward(cpu.context(), x, y, kind);
      gelu_forward(gpu.context(), g_x, g_x, kind);
      expect_near(gpu, g_x, y, "gelu of one number", 1e-4);
    }
  }
}

TEST(GpuActivation, Swiglu) {
  FORJA_REQUIRE_GPU();
  for (const auto& [n, f, padding] : kShapes) {
    for (const DType dtype : kFloats) {
      TensorBox cpu(1 << 20);
      GpuBox gpu(1 << 20);
      const Tensor gate_up = matrix(cpu, dtype, n, 2 * f, padding, 1);
      const Tensor dy = matrix(cpu, dtype, n, f, padding, 2), y = matrix(cpu, dtype, n, f, 0, 3);
      const Tensor gradient = matrix(cpu, dtype, n, 2 * f, padding, 4);
      const Tensor g_gate_up = gpu.upload(gate_up), g_y = gpu.empty(dtype, {n, f});
      swiglu_forward(cpu.context(), gate_up, y);
      swiglu_forward(gpu.context(), g_gate_up, g_y);
      expect_near(gpu, g_y, y, "swiglu");
      swiglu_backward(cpu.context(), dy, gate_up, gradient);
      swiglu_backward(gpu.context(), gpu.upload(dy), g_gate_up, g_gate_up);
      expect_near(gpu, g_gate_up, gradient, "swiglu backward, in place");
    }
  }
}

}  // namespace
}  // namespace forja::testing
