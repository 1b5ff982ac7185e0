// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/attention.h"

#include <string>

#include "tests/ops/reference.h"
#include "tests/ops/reference_attention.h"

namespace forja::testing {
namespace {

struct Case {
  std::string name;
  DType dtype;
  int64_t heads, key_heads, dim;
  std::vector<int32_t> sequences;
  AttentionOptions options;
  bool fused = false;  // q, k, v are slices of one tensor
};

int64_t total(const Case& c, int length, int begin) {
  int64_t n = 0;
  for (size_t i = 0; i < c.sequences.size(); i += 4) {
    n = std::max<int64_t>(n, c.sequences[i + begin] + c.sequences[i + length]);
  }
  return n + 2;  // two rows that belong to no sequence
}

struct Tensors {
  Tensor q, k, v, sequences, out, lse, dout, dq, dk, dv;
};

Tensors make_tensors(TensorBox& box, const Case& c) {
  Tensors t;
  const int64_t queries = total(c, 1, 0), keys = total(c, 3, 2);
  if (c.fused) {
    const int64_t rows = std::max(queries, keys), width = c.heads + 2 * c.key_heads;
    const auto split = [&](const Tensor& qkv, Tensor& q, Tensor& k, Tensor& v) {
      q = qkv.slice(1, 0, c.heads).slice(0, 0, queries);
      k = qkv.slice(1, c.heads, c.heads + c.key_heads).slice(0, 0, keys);
      v = qkv.slice(1, c.heads + c.key_heads, width).slice(0, 0, keys);
    };
    split(box.normal(c.dtype, {rows, width, c.dim}, 1), t.q, t.k, t.v);
    split(box.normal(c.dtype, {rows, width, c.dim}, 2), t.dq, t.dk, t.dv);
  } else {
    t.q = box.normal(c.dtype, {queries, c.heads, c.dim}, 3);
    t.k = box.normal(c.dtype, {keys, c.key_heads, c.dim}, 4);
    t.v = box.normal(c.dtype, {keys, c.key_heads, c.dim}, 5);
    t.dq = box.zeros(c.dtype, {queries, c.heads, c.dim});
    t.dk = box.zeros(c.dtype, {keys, c.key_heads, c.dim});
    t.dv = box.zeros(c.dtype, {keys, c.key_heads, c.dim});
  }
  t.dout = box.normal(c.dtype, {queries, c.heads, c.dim}, 6);
  t.out = box.zeros(c.dtype, {queries, c.heads, c.dim});
  t.lse = box.zeros(DType::f32, {c.heads, queries});
  t.sequences = box.from(c.sequences, {int64_t(c.sequences.size()) / 4, 4});
  return t;
}

// Only the rows of sequences: the others are left alone and are checked apart.
std::vector<Bounded> rows_of(const Case& c, const std::vector<Bounded>& all, int begin, int length,
                             int64_t per_row) {
  std::vector<Bounded> out;
  for (size_t s = 0; s < c.sequences.size(); s += 4) {
    const int64_t first = c.sequences[s + begin] * per_row;
    out.insert(out.end(), all.begin() + first,
               all.begin() + first + c.sequences[s + length] * per_row);
  }
  return out;
}

void expect_rows(const Case& c, const Tensor& t, const std::vector<Bounded>& all, int begin,
                 int length, const char* what) {
  const int64_t per_row = t.size(1) * t.size(2);
  std::vector<Bounded> expected = rows_of(c, all, begin, length, per_row);
  size_t used = 0;
  for (size_t s = 0; s < c.sequences.size(); s += 4) {
    const int64_t first = c.sequences[s + begin], count = c.sequences[s + length];
    const size_t n = size_t(count * per_row);
    expect_within(t.slice(0, first, first + count),
                  {expected.begin() + long(used), expected.begin() + long(used + n)}, what);
    used += n;
  }
}

class AttentionTest : public ::testing::TestWithParam<Case> {};

TEST_P(AttentionTest, ForwardAndBackwardMatchTheDefinition) {
  const Case& c = GetParam();
  TensorBox box;
  Tensors t = make_tensors(box, c);
  const Context& ctx = box.context();
  AttentionOracle oracle(t.q, t.k, t.v, t.sequences, c.options);
  AttentionReference r = oracle.forward();
  attention_forward(ctx, t.q, t.k, t.v, t.sequences, t.out, t.lse, c.options);
  expect_rows(c, t.out, r.out, 0, 1, "out");
  for (int64_t h = 0; h < c.heads; ++h) {
    for (size_t s = 0; s < c.sequences.size(); s += 4) {
      const int64_t first = c.sequences[s], count = c.sequences[s + 1];
      const auto begin = r.lse.begin() + h * t.q.size(0) + first;
      expect_within(t.lse.select(0, h).slice(0, first, first + count), {begin, begin + count},
                    "lse");
    }
  }
  const Tensor last_rows = t.out.slice(0, t.out.size(0) - 1, t.out.size(0));
  for (double x : to_doubles(last_rows)) ASSERT_EQ(x, 0) << "a row in no sequence was written";

  attention_backward(ctx, t.dout, t.q, t.k, t.v, t.out, t.lse, t.sequences, t.dq, t.dk, t.dv,
                     c.options);
  oracle.backward(r, t.dout, t.out);
  expect_rows(c, t.dq, r.dq, 0, 1, "dq");
  expect_rows(c, t.dk, r.dk, 2, 3, "dk");
  expect_rows(c, t.dv, r.dv, 2, 3, "dv");
}

TEST_P(AttentionTest, AnyNumberOfThreadsGivesTheSameBits) {
  const Case& c = GetParam();
  TensorBox box;
  Tensors one = make_tensors(box, c), three = make_tensors(box, c);
  const Context& ctx = box.context();
  const auto run = [&](const Tensors& t) {
    attention_forward(ctx, t.q, t.k, t.v, t.sequences, t.out, t.lse, c.options);
    attention_backward(ctx, t.dout, t.q, t.k, t.v, t.out, t.lse, t.sequences, t.dq, t.dk, t.dv,
                       c.options);
  };
  with_threads(1, [&] { run(one); });
  with_threads(3, [&] { run(three); });
  expect_same_bits(one.out, three.out, "out");
  expect_same_bits(one.lse, three.lse, "lse");
  expect_same_bits(one.dq, three.dq, "dq");
  expect_same_bits(one.dk, three.dk, "dk");
  expect_same_bits(one.dv, three.dv, "dv");
}

std::vector<Case> cases() {
  const AttentionOptions causal{.causal = true, .window = 0, .scale = 0.25f};
  const AttentionOptions full{.causal = false, .window = 0, .scale = 0.25f};
  const AttentionOptions window{.causal = true, .window = 37, .scale = 0.25f};
  const DType f32 = DType::f32, bf16 = DType::bf16;
  return {
      {"one_token", f32, 1, 1, 8, {0, 1, 0, 1}, causal},
      {"odd_sizes", f32, 3, 3, 20, {0, 67, 0, 67}, causal},
      {"odd_sizes_bf16", bf16, 3, 3, 20, {0, 67, 0, 67}, causal},
      {"tiny_head", f32, 2, 1, 3, {0, 19, 0, 19}, causal},
      {"several_blocks", f32, 2, 2, 64, {0, 533, 0, 533}, causal},
      {"several_blocks_bf16", bf16, 2, 2, 64, {0, 533, 0, 533}, causal},
      {"full", f32, 2, 2, 32, {0, 250, 0, 301}, full},
      {"grouped", f32, 6, 2, 40, {0, 130, 0, 130}, causal},
      {"grouped_bf16_fused", bf16, 8, 2, 64, {0, 300, 0, 300}, causal, true},
      {"fused", f32, 4, 4, 16, {0, 99, 0, 99}, causal, true},
      {"head_128", f32, 2, 1, 128, {0, 260, 0, 260}, causal},
      {"head_256", bf16, 1, 1, 256, {0, 80, 0, 80}, causal},
      {"window", f32, 2, 2, 24, {0, 520, 0, 520}, window},
      {"window_bf16", bf16, 4, 1, 24, {0, 520, 0, 520}, window},
      {"window_of_one",
       f32,
       1,
       1,
       16,
       {0, 50, 0, 50},
       {.causal = true, .window = 1, .scale = 1.0f}},
      {"documents",
       f32,
       2,
       1,
       16,
       {0, 5, 0, 5, 5, 0, 5, 0, 5, 130, 5, 130, 135, 1, 135, 1, 136, 40, 136, 40},
       causal},
      {"cache", f32, 4, 2, 32, {0, 1, 0, 300, 1, 1, 300, 17, 2, 7, 320, 29}, causal},
      {"cache_bf16", bf16, 4, 2, 64, {0, 1, 0, 300, 1, 1, 300, 17}, causal},
      {"rows_without_keys", f32, 2, 2, 16, {0, 40, 0, 10, 40, 8, 10, 0}, causal},
      {"no_sequence_rows", f32, 1, 1, 8, {0, 0, 0, 6}, causal},
  };
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionTest, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

TEST(Attention, BackwardIsTheDerivativeOfForward) {
  const Case c{"", DType::f32, 2, 1, 8, {0, 6, 0, 9}, {.causal = true, .window = 5, .scale = 0.5f}};
  TensorBox box;
  Tensors t = make_tensors(box, c);
  const Context& ctx = box.context();
  attention_forward(ctx, t.q, t.k, t.v, t.sequences, t.out, t.lse, c.options);
  attention_backward(ctx, t.dout, t.q, t.k, t.v, t.out, t.lse, t.sequences, t.dq, t.dk, t.dv,
                     c.options);
  // L = sum dout . out, from the fp64 reference: central differences lose h^2 L''' / 6 and the
  // rounding of L over h.
  const auto loss = [&] {
    AttentionOracle oracle(t.q, t.k, t.v, t.sequences, c.options);
    const AttentionReference r = oracle.forward();
    const std::vector<double> g = to_doubles(t.dout);
    double sum = 0;
    for (size_t i = 0; i < 6 * 2 * 8; ++i) sum += g[i] * r.out[i].value;
    return sum;
  };
  const std::pair<Tensor, Tensor> pairs[] = {{t.q, t.dq}, {t.k, t.dk}, {t.v, t.dv}};
  for (const auto& [x, dx] : pairs) {
    for (int64_t i = 0; i < x.num_elements() - 2 * x.size(1) * x.size(2); i += 5) {
      float& element = x.ptr<float>()[i];
      const float before = element;
      const float up = before + 0x1p-10f, down = before - 0x1p-10f;
      element = up;
      const double high = loss();
      element = down;
      const double low = loss();
      element = before;
      EXPECT_NEAR((high - low) / (double(up) - double(down)), dx.ptr<float>()[i], 2e-5) << i;
    }
  }
}

TEST(Attention, LseMayBeLeftOut) {
  const Case c{"", DType::f32, 2, 1, 8, {0, 20, 0, 20}, {}};
  TensorBox box;
  Tensors t = make_tensors(box, c);
  const Tensor out = box.zeros(DType::f32, {22, 2, 8});
  attention_forward(box.context(), t.q, t.k, t.v, t.sequences, t.out, t.lse, c.options);
  attention_forward(box.context(), t.q, t.k, t.v, t.sequences, out, {}, c.options);
  expect_same_bits(t.out, out, "out");
}

TEST(Attention, LargeScoresDoNotOverflow) {
  TensorBox box;
  using Values = std::vector<float>;
  const Tensor q = box.from(Values{100, -100}, {2, 1, 1}), k = box.from(Values{90, 100}, {2, 1, 1});
  const Tensor v = box.from(Values{1, 3}, {2, 1, 1}), out = box.zeros(DType::f32, {2, 1, 1});
  const Tensor lse = box.zeros(DType::f32, {1, 2});
  attention_forward(box.context(), q, k, v, box.from(std::vector<int32_t>{0, 2, 0, 2}, {1, 4}), out,
                    lse, {.causal = false, .window = 0, .scale = 1.0f});
  EXPECT_EQ(to_doubles(out), (std::vector<double>{3, 1}));
  EXPECT_NEAR(lse.ptr<float>()[0], 10000, 0.01);
  EXPECT_NEAR(lse.ptr<float>()[1], -9000, 0.01);
}

TEST(Attention, PlansTheScratchThatItUses) {
  const Case c{"", DType::bf16, 4, 2, 40, {0, 70, 0, 70}, {}};
  TensorBox box;
  const Tensors t = make_tensors(box, c);
  const int64_t planned = planned_bytes([&](const Context& ctx) {
    Tensors p = t;
    for (Tensor* x : {&p.q, &p.k, &p.v, &p.sequences, &p.out, &p.lse}) x->data = nullptr;
    attention_forward(ctx, p.q, p.k, p.v, p.sequences, p.out, p.lse, c.options);
  });
  attention_forward(box.context(), t.q, t.k, t.v, t.sequences, t.out, t.lse, c.options);
  EXPECT_EQ(box.context().workspace->peak_bytes(), planned);
}

TEST(Attention, RefusesWhatDoesNotFit) {
  const Case c{"", DType::f32, 4, 2, 8, {0, 10, 0, 10}, {}};
  TensorBox box;
  const Tensors t = make_tensors(box, c);
  const auto message = [&](const Tensor& q, const Tensor& k, const Tensor& sequences,
                           AttentionOptions o) {
    return error_of(
        [&] { attention_forward(box.context(), q, k, t.v, sequences, t.out, t.lse, o); });
  };
  EXPECT_NE(
      message(box.zeros(DType::bf16, {12, 4, 8}), t.k, t.sequences, {}).find("k must be bf16"),
      std::string::npos);
  EXPECT_NE(message(t.q, box.zeros(DType::f32, {12, 2, 16}), t.sequences, {}).find("v must have"),
            std::string::npos);
  EXPECT_NE(message(t.q, t.k, box.zeros(DType::i32, {1, 3}), {}).find("[S, 4]"), std::string::npos);
  EXPECT_NE(message(t.q, t.k, box.from(std::vector<int32_t>{0, 13, 0, 10}, {1, 4}), {})
                .find("outside 12 queries"),
            std::string::npos);
  EXPECT_NE(message(t.q, t.k, t.sequences, {.causal = false, .window = 3}).find("window"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              attention_backward(box.context(), t.dout, t.q, t.k, t.v, t.out, {}, t.sequences, t.dq,
                                 t.dk, t.dv, {});
            }).find("lse is undefined"),
            std::string::npos);
  Context cuda = box.context();
  cuda.device = {DeviceKind::cuda, 0};
  EXPECT_NE(error_of([&] {
              attention_forward(cuda, t.q, t.k, t.v, t.sequences, t.out, t.lse, {});
            }).find("is not on the device of the op"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
