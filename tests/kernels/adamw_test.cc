// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/adamw.h"

#include <cmath>

#include "tests/kernels/gpu_testing.h"

namespace forja::testing {
namespace {

constexpr AdamWOptions kOptions = {.lr = 1e-2f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.95f,
                                   .eps = 1e-8f,
                                   .weight_decay = 0.1f,
                                   .clip_norm = 1.0f};

struct Parameter {
  Tensor gradient, weight, first_moment, second_moment, compute_weight;
};

class AdamW {
 public:
  explicit AdamW(int64_t n, int64_t skip = 0)  // skip: elements before the first, to misalign
      : n_(n), skip_(skip) {
    cpu_state_ = {cpu.zeros(DType::f64, {1}), cpu.zeros(DType::i64, {1})};
    gpu_state_ = {gpu.upload(cpu_state_.sum_of_squares), gpu.upload(cpu_state_.num_updates)};
    cpu_ = {normal(1), normal(2), cpu.zeros(DType::f32, {n + skip}),
            cpu.zeros(DType::f32, {n + skip}), cpu.normal(DType::bf16, {n + skip}, 3)};
    gpu_ = {gpu.upload(cpu_.gradient), gpu.upload(cpu_.weight), gpu.upload(cpu_.first_moment),
            gpu.upload(cpu_.second_moment), gpu.upload(cpu_.compute_weight)};
  }

  void step(double sum_of_squares, const AdamWOptions& options, bool with_copy) {
    *cpu_state_.sum_of_squares.ptr<double>() = sum_of_squares;
    gpu_copy(gpu_state_.sum_of_squares.data, &sum_of_squares, 8, gpu.context().stream);
    gpu_synchronize(gpu.context().stream);
    update(cpu.context(), cpu_state_, options, cpu_, with_copy);
    update(gpu.context(), gpu_state_, options, gpu_, with_copy);
    expect_equal(gpu, gpu_state_.num_updates, cpu_state_.num_updates, "updates");
    expect_near(gpu, gpu_.weight, cpu_.weight, "weight", 1e-6);
    expect_near(gpu, gpu_.first_moment, cpu_.first_moment, "first moment", 1e-6);
    expect_near(gpu, gpu_.second_moment, cpu_.second_moment, "second moment", 1e-6);
    expect_near(gpu, gpu_.compute_weight, cpu_.compute_weight, "bf16 weight");
  }

  TensorBox cpu{4 << 20};
  GpuBox gpu{4 << 20};

 private:
  Tensor normal(uint64_t seed) { return cpu.normal(DType::f32, {n_ + skip_}, seed); }
  Tensor part(const Tensor& t) const { return t.slice(0, skip_, skip_ + n_); }
  void update(Context& ctx, const AdamWState& state, const AdamWOptions& options,
              const Parameter& p, bool with_copy) const {
    begin_adamw_step(ctx, state);
    adamw_step(ctx, state, options, part(p.gradient), part(p.weight), part(p.first_moment),
               part(p.second_moment), with_copy ? part(p.compute_weight) : Tensor());
  }

  int64_t n_, skip_;
  AdamWState cpu_state_, gpu_state_;
  Parameter cpu_, gpu_;
};

// Clipped, not clipped, skipped, without a bf16 copy.
TEST(GpuAdamW, Steps) {
  FORJA_REQUIRE_GPU();
  for (const int64_t n : {1, 7, 1024, 30001}) {
    AdamW adamw(n);
    adamw.step(9.0, kOptions, true);
    adamw.step(0.25, kOptions, true);
    adamw.step(INFINITY, kOptions, true);
    adamw.step(NAN, kOptions, true);
    AdamWOptions not_clipped = kOptions;
    not_clipped.clip_norm = 0.0f;
    adamw.step(100.0, not_clipped, false);
  }
}

TEST(GpuAdamW, Misaligned) {
  FORJA_REQUIRE_GPU();
  AdamW adamw(500, 3);
  adamw.step(9.0, kOptions, true);
}

// The powers of the bias corrections, many steps on.
TEST(GpuAdamW, LateSteps) {
  FORJA_REQUIRE_GPU();
  AdamW adamw(8);
  for (int i = 0; i < 60; ++i) adamw.step(1.0, kOptions, true);
}

}  // namespace
}  // namespace forja::testing
