// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/attention.h"

#include <array>
#include <cstring>
#include <string>

#include "tests/kernels/gpu_testing.h"

#ifndef FORJA_REAL_GPU
#include "kernels/emulator/emulator.h"
#endif

namespace forja::testing {
namespace {

struct Case {
  std::string name;
  DType dtype;
  int64_t heads, key_heads, dim;
  std::vector<int32_t> sequences;
  AttentionOptions options;
  enum class Memory {
    plain,
    fused,       // q, k, v and their gradients in one tensor each
    misaligned,  // not by 16 bytes
    poisoned,    // rows of no sequence are NaN
  } memory = Memory::plain;
};

// Both versions compute in fp32 and round the results to bf16; the GPU also rounds probabilities
// and score gradients before a product. A rounding is off by 2^-9 / sqrt(3) of the number or less
// in the root mean square, independently from term to term, so that a sum is off by that much of
// the norm of its terms, which for random numbers is that of the sum. A gradient sees five: P or
// dS, the two results, and by way of delta the two versions of out. Together sqrt(5 / 3) 2^-9 =
// 2.5e-3; twice that is allowed.
constexpr double kBf16Bound = 5e-3;

double bound_of(DType dtype) { return dtype == DType::bf16 ? kBf16Bound : 1e-5; }

// 0 of a real one, which does not change.
int device_capability() {
#ifdef FORJA_REAL_GPU
  return 0;
#else
  return emulator::compute_capability();
#endif
}

#ifndef FORJA_REAL_GPU
using HopperLaunches = std::array<int, 3>;
HopperLaunches hopper_launches() {
  return {emulator::num_launches("attention_forward_hopper"),
          emulator::num_launches("attention_backward_keys_hopper"),
          emulator::num_launches("attention_backward_queries_hopper")};
}
// What the op's launchers are to decide.
bool hopper_kernels_take(const Case& c) {
  return c.dtype == DType::bf16 && c.dim % 8 == 0 && c.dim <= 128 &&
         c.memory != Case::Memory::misaligned && c.options.scale > 0.0f && !c.sequences.empty();
}
#endif

int64_t total(const Case& c, int begin, int length) {
  int64_t n = 0;
  for (size_t i = 0; i < c.sequences.size(); i += 4)
    n = std::max<int64_t>(n, c.sequences[i + size_t(begin)] + c.sequences[i + size_t(length)]);
  return n + 2;  // two rows that belong to no sequence
}

bool is_owned(const Case& c, int64_t row, int begin, int length) {
  for (size_t i = 0; i < c.sequences.size(); i += 4) {
    const int64_t first = c.sequences[i + size_t(begin)];
    if (row >= first && row < first + c.sequences[i + size_t(length)]) return true;
  }
  return false;
}

void poison_rows(const Case& c, const Tensor& t, int begin, int length) {
  for (int64_t row = 0; row < t.size(0); ++row) {
    if (is_owned(c, row, begin, length)) continue;
    for (int64_t head = 0; head < t.size(1); ++head)
      std::memset(static_cast<char*>(t.data) +
                      (row * t.stride(0) + head * t.stride(1)) * dtype_bytes(t.dtype),
                  0xff, size_t(t.size(2) * dtype_bytes(t.dtype)));
  }
}

struct Tensors {
  Tensor q, k, v, sequences, out, lse, dout, dq, dk, dv;
};

// The outputs begin with numbers, so that rows of no sequence show that they are left alone.
Tensors make_tensors(TensorBox& box, const Case& c) {
  Tensors t;
  const int64_t queries = total(c, 0, 1), keys = total(c, 2, 3), heads = c.heads;
  const auto make = [&](int64_t rows, int64_t num_heads, uint64_t seed) {
    if (c.memory != Case::Memory::misaligned)
      return box.normal(c.dtype, {rows, num_heads, c.dim}, seed);
    return box.normal(c.dtype, {rows, num_heads, c.dim + 3}, seed).slice(2, 1, c.dim + 1);
  };
  const auto make_qkv = [&](Tensor& q, Tensor& k, Tensor& v, uint64_t seed) {
    if (c.memory != Case::Memory::fused) {
      q = make(queries, heads, seed);
      k = make(keys, c.key_heads, seed + 1);
      v = make(keys, c.key_heads, seed + 2);
      return;
    }
    const Tensor qkv =
        box.normal(c.dtype, {std::max(queries, keys), heads + 2 * c.key_heads, c.dim}, seed);
    q = qkv.slice(1, 0, heads).slice(0, 0, queries);
    k = qkv.slice(1, heads, heads + c.key_heads).slice(0, 0, keys);
    v = qkv.slice(1, heads + c.key_heads, heads + 2 * c.key_heads).slice(0, 0, keys);
  };
  make_qkv(t.q, t.k, t.v, 1);
  make_qkv(t.dq, t.dk, t.dv, 4);
  t.dout = make(queries, heads, 7);
  if (c.memory == Case::Memory::poisoned) {
    for (const Tensor& x : {t.q, t.dout}) poison_rows(c, x, 0, 1);
    for (const Tensor& x : {t.k, t.v}) poison_rows(c, x, 2, 3);
  }
  t.out = make(queries, heads, 8);
  t.lse = box.normal(DType::f32, {heads, queries}, 9);
  t.sequences = c.sequences.empty() ? box.empty(DType::i32, {0, 4})
                                    : box.from(c.sequences, {int64_t(c.sequences.size()) / 4, 4});
  return t;
}

void forward(const Context& ctx, const Tensors& t, const AttentionOptions& options) {
  attention_forward(ctx, t.q, t.k, t.v, t.sequences, t.out, t.lse, options);
}

void backward(const Context& ctx, const Tensors& t, const AttentionOptions& options) {
  attention_backward(ctx, t.dout, t.q, t.k, t.v, t.out, t.lse, t.sequences, t.dq, t.dk, t.dv,
                     options);
}

Tensors upload(GpuBox& gpu, const Tensors& t) {
  return {gpu.upload(t.q),   gpu.upload(t.k),   gpu.upload(t.v),    gpu.upload(t.sequences),
          gpu.upload(t.out), gpu.upload(t.lse), gpu.upload(t.dout), gpu.upload(t.dq),
          gpu.upload(t.dk),  gpu.upload(t.dv)};
}

// All rows within the bound, and those of no sequence untouched: there `expected`, which the CPU's
// op wrote, has what both began with.
void expect_rows(GpuBox& gpu, const Case& c, const Tensor& found, const Tensor& expected, int begin,
                 int length, const char* what) {
  expect_near(gpu, found, expected, what, bound_of(c.dtype));
  for (int64_t row = 0; row < expected.size(0); ++row) {
    if (!is_owned(c, row, begin, length))
      expect_equal(gpu, found.slice(0, row, row + 1), expected.slice(0, row, row + 1), what);
  }
}

// Every kind of device whose kernels differ for the case, in several orders of its threads; a real
// GPU is what it is.
void on_devices([[maybe_unused]] const Case& c, const std::function<void()>& body) {
#ifdef FORJA_REAL_GPU
  for (int i = 0; i < 2; ++i) body();
#else
  for (const int capability : {80, 90}) {
    const bool hopper = hopper_kernels_take(c);
    if (capability == 80 && !hopper) continue;
    SCOPED_TRACE("compute capability " + std::to_string(capability));
    emulator::set_compute_capability(capability);
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      emulator::set_seed(seed);
      const HopperLaunches before = hopper_launches();
      body();
      HopperLaunches launched = hopper_launches();
      for (size_t i = 0; i < launched.size(); ++i) launched[i] -= before[i];
      const int expected = capability == 90 && hopper ? 1 : 0;
      EXPECT_EQ(launched, (HopperLaunches{expected, expected, expected}));
    }
  }
  emulator::set_compute_capability(90);
#endif
}

void expect_same_as_cpu(const Case& c) {
  TensorBox cpu(32 << 20);
  const Tensors start = make_tensors(cpu, c), host = make_tensors(cpu, c);
  forward(cpu.context(), host, c.options);
  backward(cpu.context(), host, c.options);
  on_devices(c, [&] {
    GpuBox gpu;
    const Tensors t = upload(gpu, start);
    forward(gpu.context(), t, c.options);
    expect_rows(gpu, c, t.out, host.out, 0, 1, "out");
    expect_near(gpu, t.lse, host.lse, "lse", 1e-5);
    backward(gpu.context(), t, c.options);
    expect_rows(gpu, c, t.dq, host.dq, 0, 1, "dq");
    expect_rows(gpu, c, t.dk, host.dk, 2, 3, "dk");
    expect_rows(gpu, c, t.dv, host.dv, 2, 3, "dv");
  });
}

constexpr AttentionOptions kCausal{.causal = true, .window = 0, .scale = 0.125f};
constexpr AttentionOptions kFull{.causal = false, .window = 0, .scale = 0.125f};
constexpr AttentionOptions kWindow{.causal = true, .window = 37, .scale = 0.125f};

std::vector<int32_t> many_sequences() {
  std::vector<int32_t> all;
  int32_t begin = 0;
  for (int32_t i = 0; i < 300; ++i) {
    const int32_t length = i % 7 == 0 ? 2 : i % 3 == 0 ? 1 : 0;
    all.insert(all.end(), {begin, length, begin, length});
    begin += length;
  }
  return all;
}

std::vector<Case> cases() {
  using Memory = Case::Memory;
  std::vector<Case> all;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const std::string suffix = dtype == DType::f32 ? "_f32" : "_bf16";
    for (const int64_t dim : {20, 40, 64, 80, 96, 128, 256}) {
      all.push_back({"head_" + std::to_string(dim) + suffix,
                     dtype,
                     2,
                     dim < 80 ? 1 : 2,
                     dim,
                     {1, 83, 0, 83},
                     kCausal});
    }
    const Case more[] = {
        {"long", dtype, 1, 1, 64, {0, 300, 0, 300}, kCausal},
        {"long_128", dtype, 1, 1, 128, {0, 301, 0, 301}, kCausal},
        {"full", dtype, 2, 2, 64, {0, 150, 0, 201}, kFull},
        {"more_queries_full", dtype, 1, 1, 96, {0, 141, 0, 50}, kFull},
        {"window", dtype, 2, 1, 64, {0, 300, 0, 300}, kWindow},
        {"window_of_one", dtype, 1, 1, 64, {0, 50, 0, 50}, {true, 1, 0.125f}},
        {"window_of_a_cache", dtype, 1, 1, 128, {0, 70, 0, 200}, kWindow},
        {"fused_group_4", dtype, 4, 1, 64, {0, 131, 0, 131}, kCausal, Memory::fused},
        {"fused_window", dtype, 2, 2, 80, {0, 90, 3, 90}, kWindow, Memory::fused},
        {"misaligned", dtype, 2, 1, 64, {0, 75, 0, 75}, kCausal, Memory::misaligned},
        {"documents",
         dtype,
         2,
         1,
         64,
         {0, 5, 0, 5, 5, 0, 5, 0, 5, 130, 5, 130, 135, 1, 135, 1, 138, 40, 138, 40},
         kCausal},
        {"poisoned",
         dtype,
         2,
         2,
         64,
         {3, 130, 1, 140, 133, 40, 145, 50, 175, 20, 197, 0},
         kFull,
         Memory::poisoned},
        {"poisoned_128",
         dtype,
         2,
         1,
         128,
         {3, 130, 1, 140, 133, 40, 145, 50},
         kWindow,
         Memory::poisoned},
        {"many_sequences", dtype, 1, 1, 20, many_sequences(), kCausal},
        {"cache", dtype, 4, 2, 64, {0, 1, 0, 300, 1, 1, 300, 17, 2, 7, 320, 29}, kCausal},
        {"rows_without_keys", dtype, 2, 2, 64, {0, 70, 0, 10, 70, 8, 10, 0}, kCausal},
        {"rows_without_keys_128", dtype, 1, 1, 128, {0, 70, 0, 10, 70, 8, 10, 0}, kCausal},
        {"no_queries", dtype, 1, 1, 64, {0, 0, 0, 6}, kCausal},
        {"no_sequences", dtype, 1, 1, 64, {}, kCausal},
        {"negative_scale", dtype, 2, 1, 40, {0, 67, 0, 67}, {true, 0, -0.3f}},
        {"no_scale", dtype, 1, 1, 64, {0, 67, 0, 67}, {true, 0, 0.0f}},
    };
    for (Case c : more) {
      c.name += suffix;
      all.push_back(c);
    }
  }
  // The tiles of Hopper's kernels have 64 to 192 rows.
  for (const int64_t dim : {64, 128}) {
    const std::string suffix = "_tiles_" + std::to_string(dim);
    const DType bf16 = DType::bf16;
    for (const int32_t length : {127, 128, 129, 257, 385}) {
      all.push_back({"length_" + std::to_string(length) + suffix,
                     bf16,
                     1,
                     1,
                     dim,
                     {0, length, 0, length},
                     kCausal});
    }
    all.push_back({"full" + suffix, bf16, 2, 1, dim, {0, 140, 0, 300}, kFull, Memory::fused});
    all.push_back({"documents" + suffix,
                   bf16,
                   2,
                   1,
                   dim,
                   {0, 150, 0, 150, 150, 3, 150, 3, 153, 260, 153, 260},
                   kCausal,
                   Memory::fused});
    all.push_back({"window" + suffix,
                   bf16,
                   2,
                   1,
                   dim,
                   {0, 130, 0, 130, 135, 200, 135, 300},
                   {true, 150, 0.125f}});
  }
  return all;
}

class GpuAttention : public ::testing::TestWithParam<Case> {};

TEST_P(GpuAttention, ForwardAndBackward) {
  FORJA_REQUIRE_GPU();
  expect_same_as_cpu(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Cases, GpuAttention, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

// The order in which threads and blocks run does not change a bit.
TEST(GpuAttention, Deterministic) {
  FORJA_REQUIRE_GPU();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t dim : {64, 128, 256}) {
      const Case c{"", dtype, 2, 1, dim, {0, 70, 0, 90, 70, 140, 90, 150}, kCausal};
      TensorBox cpu(32 << 20);
      const Tensors start = make_tensors(cpu, c), host = make_tensors(cpu, c);
      bool is_first = true;
      int of_capability = 0;
      on_devices(c, [&] {
        GpuBox gpu;
        const Tensors t = upload(gpu, start);
        forward(gpu.context(), t, c.options);
        backward(gpu.context(), t, c.options);
        is_first |= device_capability() != of_capability;
        of_capability = device_capability();
        for (const auto& [found, first] : {std::pair{t.out, host.out},
                                           {t.lse, host.lse},
                                           {t.dq, host.dq},
                                           {t.dk, host.dk},
                                           {t.dv, host.dv}}) {
          if (is_first) gpu.download(found, first);
          expect_equal(gpu, found, first, c.name);
        }
        is_first = false;
      });
    }
  }
}

TEST(GpuAttention, LseMayBeLeftOut) {
  FORJA_REQUIRE_GPU();
  const Case c{"", DType::bf16, 2, 1, 64, {0, 40, 0, 40}, kCausal};
  TensorBox cpu(32 << 20);
  GpuBox gpu;
  const Tensors host = make_tensors(cpu, c);
  Tensors t = upload(gpu, host);
  t.lse = {};
  forward(cpu.context(), host, c.options);
  forward(gpu.context(), t, c.options);
  expect_rows(gpu, c, t.out, host.out, 0, 1, "out");
}

TEST(GpuAttention, LargeScoresDoNotOverflow) {
  FORJA_REQUIRE_GPU();
  TensorBox cpu(1 << 20);
  GpuBox gpu;
  using Values = std::vector<float>;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t dim : {1, 8}) {
      // Numbers in the first column, zeros behind.
      const auto rows = [&](const Values& values) {
        Values all(size_t(2 * dim));
        for (size_t i = 0; i < 2; ++i) all[i * size_t(dim)] = values[i];
        return cpu.from(all, {2, 1, dim}, dtype);
      };
      const Tensor q = rows({128, -128}), k = rows({64, 128}), v = rows({1, 3});
      const Tensor sequences = gpu.upload(cpu.from(std::vector<int32_t>{0, 2, 0, 2}, {1, 4}));
      const Tensor out = gpu.empty(dtype, {2, 1, dim}), lse = gpu.empty(DType::f32, {1, 2});
      attention_forward(gpu.context(), gpu.upload(q), gpu.upload(k), gpu.upload(v), sequences, out,
                        lse, {.causal = false, .window = 0, .scale = 1.0f});
      expect_equal(gpu, out, rows({3, 1}), "out");
      expect_near(gpu, lse, cpu.from(Values{16384, -8192}, {1, 2}), "lse", 1e-6);
    }
  }
}

#ifndef FORJA_REAL_GPU
TEST(GpuAttention, NewerDevicesDoNotGetTheKernelsOfHopper) {
  const Case c{"", DType::bf16, 2, 1, 64, {0, 40, 0, 40}, kCausal};
  TensorBox cpu(32 << 20);
  for (const int capability : {89, 100, 120}) {
    emulator::set_compute_capability(capability);
    const HopperLaunches before = hopper_launches();
    GpuBox gpu;
    const Tensors t = upload(gpu, make_tensors(cpu, c));
    forward(gpu.context(), t, c.options);
    backward(gpu.context(), t, c.options);
    EXPECT_EQ(hopper_launches(), before);
  }
  emulator::set_compute_capability(90);
}
#endif

TEST(GpuAttention, PlansTheScratchThatItUses) {
  FORJA_REQUIRE_GPU();
  const Case c{"", DType::bf16, 4, 2, 40, {0, 70, 0, 70}, kCausal};
  TensorBox cpu(32 << 20);
  GpuBox gpu;
  const Tensors t = upload(gpu, make_tensors(cpu, c));
  Arena planned("plan", gpu.context().device);
  Context plan = gpu.context();
  plan.workspace = &planned;
  Tensors p = t;
  for (Tensor* x : {&p.q, &p.k, &p.v, &p.sequences, &p.out, &p.lse, &p.dout, &p.dq, &p.dk, &p.dv})
    x->data = nullptr;
  forward(plan, p, c.options);
  forward(gpu.context(), t, c.options);
  EXPECT_EQ(gpu.context().workspace->peak_bytes(), planned.peak_bytes());
  backward(plan, p, c.options);
  backward(gpu.context(), t, c.options);
  EXPECT_EQ(gpu.context().workspace->peak_bytes(), planned.peak_bytes());
  EXPECT_EQ(planned.used_bytes(), 0);
}

#ifndef FORJA_REAL_GPU  // where it ends the process's use of the GPU
TEST(GpuAttention, RefusesSequencesOutOfRange) {
  const Case c{"", DType::bf16, 1, 1, 64, {0, 10, 0, 10}, kCausal};
  const std::vector<int32_t> wrong[] = {
      {0, 13, 0, 10}, {-1, 4, 0, 10}, {0, 10, 8, 5}, {0, 10, 0, -1}, {5, 2147483647, 0, 1}};
  for (const std::vector<int32_t>& sequence : wrong) {
    TensorBox cpu(1 << 20);
    GpuBox gpu;
    Tensors t = upload(gpu, make_tensors(cpu, c));
    t.sequences = gpu.upload(cpu.from(sequence, {1, 4}));
    const std::string error = error_of([&] {
      forward(gpu.context(), t, c.options);
      synchronize(gpu.context());
    });
    EXPECT_NE(error.find("a sequence is outside"), std::string::npos) << error;
  }
}
#endif

}  // namespace
}  // namespace forja::testing
