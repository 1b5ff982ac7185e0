// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/attention.h"

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
  enum class Memory { plain, fused, misaligned } memory = Memory::plain;
};

// Both versions compute in fp32 and round the results to bf16; the GPU also rounds probabilities
// and score gradients before a product. A rounding is off by 2^-9 / sqrt(3) of the number or less
// in the root mean square, independently from term to term, so that a sum is off by that much of
// the norm of its terms, which for random numbers is that of the sum. A gradient sees five: P or
// dS, the two results, and by way of delta the two versions of out. Together sqrt(5 / 3) 2^-9 =
// 2.5e-3; twice that is allowed.
constexpr double kBf16Bound = 5e-3;

double bound_of(DType dtype) { return dtype == DType::bf16 ? kBf16Bound : 1e-5; }

void set_seed([[maybe_unused]] uint64_t seed) {
#ifndef FORJA_REAL_GPU
  emulator::set_seed(seed);
#endif
}

int64_t total(const Case& c, int begin, int length) {
  int64_t n = 0;
  for (size_t i = 0; i < c.sequences.size(); i += 4)
    n = std::max<int64_t>(n, c.sequences[i + size_t(begin)] + c.sequences[i + size_t(length)]);
  return n + 2;  // two rows that belong to no sequence
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
    bool owned = false;
    for (size_t i = 0; i < c.sequences.size(); i += 4) {
      const int64_t first = c.sequences[i + size_t(begin)];
      owned |= row >= first && row < first + c.sequences[i + size_t(length)];
    }
    if (!owned)
      expect_equal(gpu, found.slice(0, row, row + 1), expected.slice(0, row, row + 1), what);
  }
}

void expect_same_as_cpu(const Case& c) {
  TensorBox cpu(32 << 20);
  const Tensors start = make_tensors(cpu, c), host = make_tensors(cpu, c);
  forward(cpu.context(), host, c.options);
  backward(cpu.context(), host, c.options);
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    set_seed(seed);
    GpuBox gpu;
    const Tensors t = upload(gpu, start);
    forward(gpu.context(), t, c.options);
    expect_rows(gpu, c, t.out, host.out, 0, 1, "out");
    expect_near(gpu, t.lse, host.lse, "lse", 1e-5);
    backward(gpu.context(), t, c.options);
    expect_rows(gpu, c, t.dq, host.dq, 0, 1, "dq");
    expect_rows(gpu, c, t.dk, host.dk, 2, 3, "dk");
    expect_rows(gpu, c, t.dv, host.dv, 2, 3, "dv");
  }
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
      const Case c{"", dtype, 2, 1, dim, {0, 70, 0, 90}, kCausal};
      TensorBox cpu(32 << 20);
      GpuBox gpu;
      const Tensors host = make_tensors(cpu, c);
      for (uint64_t seed = 1; seed <= 3; ++seed) {
        set_seed(seed);
        const Tensors t = upload(gpu, make_tensors(cpu, c));
        forward(gpu.context(), t, c.options);
        backward(gpu.context(), t, c.options);
        for (const auto& [found, first] : {std::pair{t.out, host.out},
                                           {t.lse, host.lse},
                                           {t.dq, host.dq},
                                           {t.dk, host.dk},
                                           {t.dv, host.dv}}) {
          if (seed == 1) gpu.download(found, first);
          expect_equal(gpu, found, first, "seed " + std::to_string(seed));
        }
      }
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
    const Tensor q = cpu.from(Values{128, -128}, {2, 1, 1}, dtype);
    const Tensor k = cpu.from(Values{64, 128}, {2, 1, 1}, dtype);
    const Tensor v = cpu.from(Values{1, 3}, {2, 1, 1}, dtype);
    const Tensor sequences = gpu.upload(cpu.from(std::vector<int32_t>{0, 2, 0, 2}, {1, 4}));
    const Tensor out = gpu.empty(dtype, {2, 1, 1}), lse = gpu.empty(DType::f32, {1, 2});
    attention_forward(gpu.context(), gpu.upload(q), gpu.upload(k), gpu.upload(v), sequences, out,
                      lse, {.causal = false, .window = 0, .scale = 1.0f});
    expect_equal(gpu, out, cpu.from(Values{3, 1}, {2, 1, 1}, dtype), "out");
    expect_near(gpu, lse, cpu.from(Values{16384, -8192}, {1, 2}), "lse", 1e-6);
  }
}

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
