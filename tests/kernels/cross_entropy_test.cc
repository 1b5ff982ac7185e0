// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/cross_entropy.h"

#include <cmath>

#include "forja/ops/log_probability.h"
#include "tests/kernels/gpu_testing.h"

namespace forja::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16};
constexpr int64_t kFirstColumn = 100;
// Columns, and of gaps between rows: odd ones give every row another alignment.
constexpr std::pair<int64_t, int64_t> kShapes[] = {{1, 0},   {5, 0},    {64, 8},
                                                   {333, 0}, {2050, 1}, {17000, 0}};

struct Numbers {
  Numbers(DType dtype, int64_t columns, int64_t gap) : rows(columns > 5000 ? 2 : 6) {
    logits = box.normal(dtype, {rows, columns + gap}, 1, 4.0).slice(1, 0, columns);
    std::vector<int32_t> t;  // in this part, before it, after it, none
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t of[] = {kFirstColumn + i * 5 % columns,
                            kFirstColumn + columns - 1,
                            3,
                            kFirstColumn + columns,
                            -100,
                            -1};
      t.push_back(int32_t(of[i]));
    }
    targets = box.from(t, {rows});
  }
  Tensor per_token(uint64_t seed) { return box.normal(DType::f32, {rows}, seed); }

  TensorBox box{4 << 20};
  int64_t rows;
  Tensor logits, targets;
};

TEST(GpuCrossEntropy, Statistics) {
  FORJA_REQUIRE_GPU();
  for (const auto& [columns, gap] : kShapes) {
    for (const DType dtype : kFloats) {
      Numbers cpu(dtype, columns, gap);
      GpuBox gpu(4 << 20);
      Tensor expected[3], found[3];
      for (Tensor& t : expected) t = cpu.per_token(2);
      for (Tensor& t : found) t = gpu.empty(DType::f32, {cpu.rows});
      softmax_statistics(cpu.box.context(), cpu.logits, cpu.targets, kFirstColumn, expected[0],
                         expected[1], expected[2]);
      softmax_statistics(gpu.context(), gpu.upload(cpu.logits), gpu.upload(cpu.targets),
                         kFirstColumn, found[0], found[1], found[2]);
      expect_equal(gpu, found[0], expected[0], "maximum");
      expect_near(gpu, found[1], expected[1], "sum");
      expect_equal(gpu, found[2], expected[2], "target's logit");
    }
  }
}

// Infinities and NaNs: rows of them, and single ones.
TEST(GpuCrossEntropy, StatisticsOfNonFinite) {
  FORJA_REQUIRE_GPU();
  constexpr int64_t kColumns = 70;
  constexpr float kInfinity = INFINITY;
  TensorBox cpu(1 << 20);
  GpuBox gpu(1 << 20);
  const Tensor logits = cpu.normal(DType::f32, {4, kColumns}, 1);
  float* x = logits.ptr<float>();
  for (int64_t i = 0; i < kColumns; ++i) x[i] = x[kColumns + i] = -kInfinity;
  x[kColumns + 37] = 2.5f;
  x[2 * kColumns + 69] = NAN;
  x[3 * kColumns + 1] = -kInfinity;
  const Tensor targets = cpu.from(std::vector<int32_t>{0, 37, 1, 1}, {4});
  const Tensor m = cpu.empty(DType::f32, {4}), s = cpu.empty(DType::f32, {4});
  const Tensor t = cpu.empty(DType::f32, {4});
  const Tensor g_m = gpu.empty(DType::f32, {4}), g_s = gpu.empty(DType::f32, {4});
  const Tensor g_t = gpu.empty(DType::f32, {4});
  softmax_statistics(cpu.context(), logits, targets, 0, m, s, t);
  softmax_statistics(gpu.context(), gpu.upload(logits), gpu.upload(targets), 0, g_m, g_s, g_t);
  expect_near(gpu, g_s, s, "sum");
  expect_equal(gpu, g_t, t, "target's logit");
  expect_equal(gpu, g_m.slice(0, 0, 2), m.slice(0, 0, 2), "maximum");
}

TEST(GpuCrossEntropy, Gradient) {
  FORJA_REQUIRE_GPU();
  for (const auto& [columns, gap] : kShapes) {
    for (const DType in : kFloats) {
      for (const DType out : kFloats) {
        Numbers cpu(in, columns, gap);
        GpuBox gpu(4 << 20);
        const Tensor lse = cpu.per_token(3), coefficient = cpu.per_token(4);
        for (int64_t i = 0; i < cpu.rows; ++i) lse.ptr<float>()[i] += 8.0f;
        coefficient.ptr<float>()[1] = 0.0f;
        const Tensor gradient =
            cpu.box.normal(out, {cpu.rows, columns + gap}, 5).slice(1, 0, columns);
        const Tensor g_gradient = gpu.upload(gradient), g_logits = gpu.upload(cpu.logits);
        const Tensor g_targets = gpu.upload(cpu.targets), g_lse = gpu.upload(lse);
        const Tensor g_coefficient = gpu.upload(coefficient);
        softmax_gradient(cpu.box.context(), cpu.logits, cpu.targets, kFirstColumn, lse, coefficient,
                         gradient);
        softmax_gradient(gpu.context(), g_logits, g_targets, kFirstColumn, g_lse, g_coefficient,
                         g_gradient);
        expect_near(gpu, g_gradient, gradient, "gradient");
        if (in != out) continue;
        softmax_gradient(gpu.context(), g_logits, g_targets, kFirstColumn, g_lse, g_coefficient,
                         g_logits);
        expect_near(gpu, g_logits, gradient, "gradient, in place");
      }
    }
  }
}

// p - 1 keeps its accuracy where p is near 1; a row with coefficient 0 may hold anything.
TEST(GpuCrossEntropy, GradientExtremes) {
  FORJA_REQUIRE_GPU();
  TensorBox cpu(1 << 16);
  GpuBox gpu(1 << 16);
  const Tensor logits =
      cpu.from(std::vector<float>{20.0f, 1.0f, 0.0f, NAN, INFINITY, 0.0f}, {2, 3});
  const Tensor targets = cpu.from(std::vector<int32_t>{0, 1}, {2});
  const Tensor lse = cpu.from(std::vector<float>{20.000001f, NAN}, {2});
  const Tensor c = cpu.from(std::vector<float>{2.0f, 0.0f}, {2});
  const Tensor dx = cpu.empty(DType::f32, {2, 3}), g_dx = gpu.empty(DType::f32, {2, 3});
  softmax_gradient(cpu.context(), logits, targets, 0, lse, c, dx);
  softmax_gradient(gpu.context(), gpu.upload(logits), gpu.upload(targets), 0, gpu.upload(lse),
                   gpu.upload(c), g_dx);
  expect_near(gpu, g_dx, dx, "gradient");
}

TEST(GpuCrossEntropy, LogProbability) {
  FORJA_REQUIRE_GPU();
  constexpr int64_t n = 300;
  TensorBox cpu(1 << 20);
  GpuBox gpu(1 << 20);
  const Tensor maximum = cpu.normal(DType::f32, {n}, 1), logit = cpu.normal(DType::f32, {n}, 2);
  const Tensor largest = cpu.normal(DType::f32, {n}, 4), sum = cpu.empty(DType::f32, {n});
  std::vector<int32_t> t(n);
  for (int64_t i = 0; i < n; ++i) {
    t[size_t(i)] = i % 5 == 0 ? -1 : int32_t(i);
    sum.ptr<float>()[i] = 1.0f + float(i);
  }
  const Tensor targets = cpu.from(t, {n}), log_p = cpu.empty(DType::f32, {n});
  const Tensor g_maximum = gpu.upload(maximum), g_sum = gpu.upload(sum),
               g_log_p = gpu.empty(DType::f32, {n});
  rescale_sum_exp(cpu.context(), maximum, largest, sum);
  rescale_sum_exp(gpu.context(), g_maximum, gpu.upload(largest), g_sum);
  expect_near(gpu, g_sum, sum, "sum");
  log_probability(cpu.context(), maximum, sum, logit, targets, maximum, log_p);
  log_probability(gpu.context(), g_maximum, g_sum, gpu.upload(logit), gpu.upload(targets),
                  g_maximum, g_log_p);
  expect_near(gpu, g_maximum, maximum, "lse");
  expect_near(gpu, g_log_p, log_p, "log probability");
}

}  // namespace
}  // namespace forja::testing
