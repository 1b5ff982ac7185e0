// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/dropout.h"

#include "forja/base/philox.h"
#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

bool kept(uint64_t key, int64_t element, float probability) {
  return uniform_float(philox(key, uint64_t(element / 4), 0).v[element % 4]) >= probability;
}

TEST(Dropout, MaskIsAFunctionOfKeyAndElement) {
  TensorBox box;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t first : {int64_t(0), int64_t(1), int64_t(7), (int64_t(1) << 35) + 2}) {
      for (const int64_t columns : {1, 19, 2000}) {
        const float probability = 0.3f;
        const Tensor x = box.normal(dtype, {31, columns}, 1), y = box.empty(dtype, {31, columns});
        dropout(box.context(), x, y, probability, 99, {first});
        const std::vector<double> v = to_doubles(x);
        std::vector<Bounded> expected;
        for (size_t i = 0; i < v.size(); ++i) {
          const double value =
              kept(99, first + int64_t(i), probability) ? v[i] / (1 - double(probability)) : 0.0;
          expected.push_back({value, gamma(4) * std::fabs(value)});
        }
        expect_within(y, expected, "dropout");
        dropout(box.context(), x, x, probability, 99, {first});
        expect_same_bits(x, y, "in place");
      }
    }
  }
}

TEST(Dropout, RangesAndThreadsAgree) {
  TensorBox box;
  const Tensor x = box.normal(DType::f32, {100, 1001}, 1), all = box.empty(DType::f32, {100, 1001});
  const Tensor parts = box.empty(DType::f32, {100, 1001});
  with_threads(3, [&] { dropout(box.context(), x, all, 0.1f, 5, {0}); });
  for (int64_t r = 0; r < 100; r += 10) {
    dropout(box.context(), x.slice(0, r, r + 10), parts.slice(0, r, r + 10), 0.1f, 5, {r * 1001});
  }
  expect_same_bits(all, parts, "rows apart");
  double dropped = 0;
  for (double v : to_doubles(all)) dropped += v == 0;
  // A binomial count: five standard deviations.
  EXPECT_NEAR(dropped, 100100 * 0.1, 5 * std::sqrt(100100 * 0.1 * 0.9));
  dropout(box.context(), x, all, 0.0f, 5, {0});
  expect_same_bits(all, x, "probability 0");
}

TEST(Dropout, ABlockOfColumnsHasItsPartOfTheMask) {
  constexpr int64_t kRows = 7, kColumns = 30, kWidth = 13, kFirst = 3 * kColumns;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    TensorBox box;
    const Tensor x = box.normal(dtype, {kRows, kColumns}, 1),
                 all = box.empty(dtype, {kRows, kColumns});
    dropout(box.context(), x, all, 0.4f, 5, {kFirst});
    for (const int64_t column : {0, 5, 17}) {
      const auto block_of = [&](const Tensor& t) {
        const Tensor out = box.empty(dtype, {kRows, kWidth});
        for (int64_t r = 0; r < kRows; ++r) {
          copy_bytes(box.context(), out.select(0, r).data,
                     t.select(0, r).slice(0, column, column + kWidth).data,
                     kWidth * dtype_bytes(dtype));
        }
        return out;
      };
      const Tensor y = block_of(x);
      dropout(box.context(), y, y, 0.4f, 5, {kFirst + column, 0, kWidth, kColumns});
      expect_same_bits(y, block_of(all), "a block of columns");
    }
  }
}

TEST(Dropout, RefusesWhatDoesNotFit) {
  TensorBox box;
  const Tensor x = box.zeros(DType::f32, {2, 2});
  EXPECT_NE(error_of([&] { dropout(box.context(), x, x, 1.0f, 1, {0}); }).find("[0, 1)"),
            std::string::npos);
  EXPECT_NE(error_of([&] { dropout(box.context(), x, x, 0.1f, 1, {-4}); }).find("negative"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
