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
      embedding_forward(box.context(), ids, table, {}, {}, out);
      for (int64_t n = 0; n < 5; ++n) {
        expect_same_bits(out.select(0, n), table.select(0, id_values[size_t(n)]), "row");
      }
      embedding_forward(box.context(), ids, table, positions, position_table, out);
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
      with_threads(2, [&] { embedding_backward(box.context(), dout, ids, gradient); });
      with_threads(3, [&] { embedding_backward(box.context(), dout, ids, again); });
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
              embedding_forward(ctx, high, table, {}, {}, out);
            }).find("ids[1] is 7, outside [0, 7)"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              embedding_forward(ctx, good, table, negative, table, out);
            }).find("positions[0] is -1"),
            std::string::npos);
  EXPECT_NE(error_of([&] { embedding_backward(ctx, out, high, table); }).find("ids[1] is 7"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              embedding_forward(ctx, good, box.zeros(DType::bf16, {7, 4}), {}, {}, out);
            }).find("table must be fp32"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              embedding_forward(ctx, good, box.zeros(DType::f32, {7, 5}), {}, {}, out);
            }).find("must have 4 columns"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
