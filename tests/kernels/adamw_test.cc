// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/adamw.h"

#include <cmath>

#include "forja/ops/elementwise.h"
#include "tests/kernels/gpu_testing.h"

namespace forja::testing {
namespace {

constexpr AdamWOptions kOptions = {.lr = 1e-2f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.95f,
                                   .eps = 1e-8f,
                                   .weight_decay = 0.1f,
                                   .clip_norm = 1.0f};

constexpr double kLargestSum = 400.0;

struct Variant {
  DType moments;
  Rounding rounding;
};
constexpr Variant kVariants[] = {{DType::f32, Rounding::nearest},
                                 {DType::bf16, Rounding::nearest},
                                 {DType::bf16, Rounding::stochastic}};

// A range of the list: `skip` elements before the first misalign it.
struct Part {
  int64_t count;
  int64_t skip = 0;
  ElementMap elements = {};
};

// The same list on the CPU and on the GPU.
class Lists {
 public:
  Lists(const std::vector<Part>& parts, const Variant& variant) : variant_(variant) {
    cpu_state_ = {cpu.zeros(DType::f64, {1}), cpu.zeros(DType::i64, {1}),
                  cpu.zeros(DType::f64, {1})};
    *cpu_state_.largest_sum.ptr<double>() = kLargestSum;
    gpu_state_ = {gpu.upload(cpu_state_.sum_of_squares), gpu.upload(cpu_state_.num_updates),
                  gpu.upload(cpu_state_.largest_sum)};
    std::vector<AdamWRange> on_cpu, on_gpu;
    for (const Part& part : parts) {
      const int64_t n = part.count + part.skip;
      const auto seed = uint64_t(10 * on_cpu.size());
      AdamWRange r{.gradient = cpu.normal(DType::f32, {n}, seed + 1),
                   .weight = cpu.normal(DType::f32, {n}, seed + 2),
                   .first_moment = cpu.normal(variant.moments, {n}, seed + 3),
                   .second_moment = cpu.zeros(variant.moments, {n}),
                   .decays = on_cpu.size() % 2 == 0,
                   .counts = on_cpu.size() % 3 != 1,
                   .lr_scale = on_cpu.size() % 4 == 3 ? 0.3f : 1.0f,
                   .key = seed,
                   .elements = part.elements};
      fill_value(cpu.context(), r.second_moment, 0.7f);
      if (on_cpu.size() != 2) r.compute_weight = cpu.normal(DType::bf16, {n}, seed + 4);
      AdamWRange g = r;
      for (Tensor AdamWRange::*t : kTensors) {
        if (!(r.*t).defined()) continue;
        g.*t = gpu.upload(r.*t).slice(0, part.skip, n);
        r.*t = (r.*t).slice(0, part.skip, n);
      }
      on_cpu.push_back(r);
      on_gpu.push_back(g);
    }
    cpu_ = make_adamw_list(cpu.context(), on_cpu, *cpu.context().workspace);
    gpu_ = make_adamw_list(gpu.context(), on_gpu, *gpu.context().workspace);
  }

  void set_gradients(float value) {
    for (const AdamWRange& r : cpu_.ranges) fill_value(cpu.context(), r.gradient, value);
    for (const AdamWRange& r : gpu_.ranges) fill_value(gpu.context(), r.gradient, value);
  }

  void step(double squares, AdamWOptions options) {
    options.rounding = variant_.rounding;
    *cpu_state_.sum_of_squares.ptr<double>() = squares;
    gpu_copy(gpu_state_.sum_of_squares.data, &squares, 8, gpu.context().stream);
    gpu_synchronize(gpu.context().stream);
    begin_adamw_step(cpu.context(), cpu_state_);
    begin_adamw_step(gpu.context(), gpu_state_);
    adamw_step(cpu.context(), cpu_state_, options, cpu_);
    adamw_step(gpu.context(), gpu_state_, options, gpu_);
    ++steps_;
    num_updates_ += squares <= kLargestSum;
    EXPECT_EQ(*cpu_state_.num_updates.ptr<int64_t>(), num_updates_);
    expect_equal(gpu, gpu_state_.num_updates, cpu_state_.num_updates, "updates");
  }

  void expect_same_bits() {
    for_tensors([&](const Tensor& found, const Tensor& expected, const std::string& what) {
      expect_equal(gpu, found, expected, what);
    });
  }

  // Both sides do the same operations; factors (and products, where the CPU has no fused
  // multiply-add) may differ in their last bits, which are 2^-16 of the distance between bf16
  // numbers: so often may a moment be rounded to the other neighbour.
  void expect_alike() {
    for_tensors([&](const Tensor& found, const Tensor& expected, const std::string& what) {
      if (expected.dtype == DType::f32)
        return expect_near(gpu, found, expected, what,
                           variant_.moments == DType::f32 ? 1e-6 : 1e-5);
      expect_near(gpu, found, expected, what);
      const Tensor copy = cpu.empty(DType::bf16, {found.size(0)});
      gpu.download(found, copy);
      const std::vector<double> a = to_doubles(copy), b = to_doubles(expected);
      int64_t different = 0;
      for (size_t i = 0; i < a.size(); ++i) different += a[i] != b[i];
      EXPECT_LE(different, 2 + steps_ * found.size(0) / 8192) << what;
    });
  }

  void expect_same_sum() {
    const Tensor expected = cpu.zeros(DType::f64, {1});
    const Tensor found = gpu.upload(cpu.normal(DType::f64, {1}, 1)), again = gpu.upload(expected);
    sum_of_squares(cpu.context(), cpu_, expected);
    sum_of_squares(gpu.context(), gpu_, found);
    sum_of_squares(gpu.context(), gpu_, again);
    expect_near(gpu, found, expected, "sum of squares", 1e-14);
    gpu.download(found, expected);
    expect_equal(gpu, again, expected, "sum of squares, again");
  }

  TensorBox cpu{16 << 20};
  GpuBox gpu{16 << 20};

 private:
  static constexpr Tensor AdamWRange::*kTensors[] = {
      &AdamWRange::gradient, &AdamWRange::weight, &AdamWRange::first_moment,
      &AdamWRange::second_moment, &AdamWRange::compute_weight};

  template <class Body>
  void for_tensors(const Body& body) {
    for (size_t i = 0; i < cpu_.ranges.size(); ++i) {
      int index = 0;
      for (Tensor AdamWRange::*t : kTensors) {
        const Tensor& expected = cpu_.ranges[i].*t;
        const std::string what = fmt::format("range {}, tensor {}", i, index++);
        if (expected.defined()) body(gpu_.ranges[i].*t, expected, what);
      }
    }
  }

  Variant variant_;
  AdamWState cpu_state_, gpu_state_;
  AdamWList cpu_, gpu_;
  int64_t steps_ = 0, num_updates_ = 0;
};

// Odd sizes, sizes about a chunk's, views that begin anywhere; parts that are runs of the full
// tensor, or rows cut by columns: where groups of four are whole there, and where not.
const std::vector<Part> kParts = {
    {1},
    {4096, 0, {.first = 64}},
    {500, 3, {.first = 7}},
    {30001},
    {0},
    {7, 1},
    {4097, 0, {.first = 2}},
    {12 * 333, 0, {.first = 24, .column = 4, .columns = 12, .full_columns = 48}},
    {1000, 5, {.first = 21, .column = 2, .columns = 7, .full_columns = 21}},
};

// Clipped, not clipped, skipped: not finite, or above the largest sum.
TEST(GpuAdamW, StepsOfManyTensors) {
  FORJA_REQUIRE_GPU();
  for (const Variant& variant : kVariants) {
    Lists lists(kParts, variant);
    lists.step(9.0, kOptions);
    lists.step(0.25, kOptions);
    lists.step(INFINITY, kOptions);
    lists.step(NAN, kOptions);
    lists.step(kLargestSum, kOptions);
    lists.step(std::nextafter(kLargestSum, 1e9), kOptions);
    AdamWOptions not_clipped = kOptions;
    not_clipped.clip_norm = 0.0f;
    lists.step(100.0, not_clipped);
    lists.expect_alike();
  }
}

// Without gradients a moment is rounded once to fp32 and once to bf16: every bit is the same, the
// random ones too.
TEST(GpuAdamW, DrawsTheSameBitsAsTheCpu) {
  FORJA_REQUIRE_GPU();
  Lists lists(kParts, {DType::bf16, Rounding::stochastic});
  lists.set_gradients(0.0f);
  AdamWOptions options = kOptions;
  options.lr = 0.0f;  // the weights' own arithmetic has more roundings
  for (int i = 0; i < 5; ++i) lists.step(1.0, options);
  lists.expect_same_bits();
}

TEST(GpuAdamW, ListsOfOneOfNoneAndOfMany) {
  FORJA_REQUIRE_GPU();
  for (const int64_t n : {0, 1, 300}) {
    std::vector<Part> parts;
    for (int64_t i = 0; i < n; ++i) parts.push_back({1 + i % 9, i % 4, {.first = i}});
    for (const Variant& variant : kVariants) {
      Lists lists(parts, variant);
      lists.step(1.0, kOptions);
      lists.expect_alike();
    }
  }
}

// The powers of the bias corrections, many steps on.
TEST(GpuAdamW, LateSteps) {
  FORJA_REQUIRE_GPU();
  Lists lists({{8}}, kVariants[0]);
  for (int i = 0; i < 60; ++i) lists.step(1.0, kOptions);
  lists.expect_alike();
}

TEST(GpuAdamW, SumOfSquares) {
  FORJA_REQUIRE_GPU();
  Lists(kParts, kVariants[0]).expect_same_sum();
  Lists({}, kVariants[0]).expect_same_sum();
  for (const int64_t n : {1, 7, 2049, 20011}) {
    for (const int64_t skip : {0, 1}) Lists({{n, skip}}, kVariants[0]).expect_same_sum();
  }
}

}  // namespace
}  // namespace forja::testing
