// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/embedding.h"

#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16};

TEST(Embedding, ForwardCopiesRowsAndAddsPositions) {
  TensorBox box;
  const std::vector<int32_t> id_values = {3, 0, 6, 3, 5}, position_values = {0, 1, 2, 0, 1};
  const Tensor ids = box.from(id_values, {5}), positions = box.from(position_values, {5});
  for (const DType dtype : kFloats) {
    for (const int64_t h : {1, 16, 37}) {
      const Tensor table = box.normal(dtype, {7, h}, 1),
                   position_table = box.normal(dtype, {3, h}, 2);
      const Tensor out = box.empty(dtype, {5, h});
      embedding_forward(box.context(), ids, table, 0, 7, out);
      for (int64_t n = 0; n < 5; ++n) {
        expect_same_bits(out.select(0, n), table.select(0, id_values[size_t(n)]), "row");
      }
      embedding_add(box.context(), positions, position_table, out);
      const std::vector<double> x = to_doubles(table), p = to_doubles(position_table);
      std::vector<Bounded> expected;
      for (size_t n = 0; n < 5; ++n) {
        for (int64_t c = 0; c < h; ++c) {
          const double sum =
              x[size_t(id_values[n] * h + c)] + p[size_t(position_values[n] * h + c)];
          expected.push_back({sum, gamma(1) * std::fabs(sum)});
        }
      }
      expect_within(out, expected, "with positions");
    }
  }
}

// Rows [2, 5) of a table of 7: other ids give nothing and take nothing.
TEST(Embedding, PartOfATable) {
  TensorBox box;
  const Tensor ids = box.from(std::vector<int32_t>{3, 0, 6, 2, 5}, {5});
  const Tensor whole = box.normal(DType::f32, {7, 9}, 1), part = whole.slice(0, 2, 5);
  const Tensor out = box.normal(DType::f32, {5, 9}, 2), nothing = box.zeros(DType::f32, {1, 9});
  embedding_forward(box.context(), ids, part, 2, 7, out);
  for (int64_t n : {1, 2, 4})
    expect_same_bits(out.select(0, n), nothing.select(0, 0), "not in the table");
  expect_same_bits(out.select(0, 0), whole.select(0, 3), "in the table");
  const Tensor gradient = box.zeros(DType::f32, {3, 9}), dout = box.normal(DType::f32, {5, 9}, 3);
  embedding_backward(box.context(), dout, ids, 2, 7, gradient);
  expect_same_bits(gradient.select(0, 0), dout.select(0, 3), "id 2");
  expect_same_bits(gradient.select(0, 1), dout.select(0, 0), "id 3");
  expect_same_bits(gradient.select(0, 2), nothing.select(0, 0), "id 4");
}

TEST(Embedding, BackwardAddsInTheOrderOfTheTokens) {
  TensorBox box;
  const int64_t n = 300, v = 11;
  std::vector<int32_t> id_values;
  for (int64_t i = 0; i < n; ++i) id_values.push_back(int32_t(i * i % v));
  const Tensor ids = box.from(id_values, {n});
  for (const DType dtype : kFloats) {
    for (const int64_t h : {1, 70, 200}) {
      const Tensor dout = box.normal(dtype, {n, h}, 1);
      const Tensor gradient = box.normal(DType::f32, {v, h}, 2),
                   again = box.normal(DType::f32, {v, h}, 2);
      const Tensor expected = box.normal(DType::f32, {v, h}, 2);
      const std::vector<double> g = to_doubles(dout);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t c = 0; c < h; ++c) {
          expected.ptr<float>()[id_values[size_t(i)] * h + c] += float(g[size_t(i * h + c)]);
        }
      }
      with_threads(2, [&] { embedding_backward(box.context(), dout, ids, 0, v, gradient); });
      with_threads(3, [&] { embedding_backward(box.context(), dout, ids, 0, v, again); });
      expect_same_bits(gradient, expected, "order of the tokens");
      expect_same_bits(again, expected, "threads");
    }
  }
}

TEST(Embedding, RefusesWhatDoesNotFit) {
  TensorBox box;
  const Context& ctx = box.context();
  const Tensor table = box.zeros(DType::f32, {7, 4}), out = box.zeros(DType::f32, {2, 4});
  const Tensor good = box.from(std::vector<int32_t>{0, 6}, {2}),
               high = box.from(std::vector<int32_t>{0, 7}, {2});
  const Tensor negative = box.from(std::vector<int32_t>{-1, 0}, {2});
  EXPECT_NE(error_of([&] {
              embedding_forward(ctx, high, table, 0, 7, out);
            }).find("ids[1] is 7, outside [0, 7)"),
            std::string::npos);
  EXPECT_NE(error_of([&] { embedding_add(ctx, negative, table, out); }).find("ids[0] is -1"),
            std::string::npos);
  EXPECT_NE(error_of([&] { embedding_backward(ctx, out, high, 0, 7, table); }).find("ids[1] is 7"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              embedding_forward(ctx, good, box.zeros(DType::bf16, {7, 4}), 0, 7, out);
            }).find("table must be fp32"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              embedding_forward(ctx, good, box.zeros(DType::f32, {7, 5}), 0, 7, out);
            }).find("must have 4 columns"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
