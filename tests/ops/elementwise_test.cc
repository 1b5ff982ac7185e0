// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/elementwise.h"

#include <limits>

#include "forja/base/philox.h"
#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16};
constexpr int64_t kSizes[] = {0, 1, 7, 16, 33, 100001};

TEST(Elementwise, ConvertRoundsToNearestEven) {
  TensorBox box;
  for (const int64_t n : kSizes) {
    const Tensor x = box.normal(DType::f32, {n}, 1, 1e3), y = box.empty(DType::bf16, {n}),
                 z = box.empty(DType::f32, {n});
    convert(box.context(), x, y);
    convert(box.context(), y, z);
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(y.ptr<BFloat16>()[i].bits, BFloat16(x.ptr<float>()[i]).bits) << x.ptr<float>()[i];
      ASSERT_EQ(z.ptr<float>()[i], float(y.ptr<BFloat16>()[i]));
    }
  }
}

TEST(Elementwise, ConvertOfSpecialValues) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  uint32_t payload = 0x7f800001;  // a NaN whose payload is in the bits that go
  float small_nan;
  std::memcpy(&small_nan, &payload, 4);
  // 1 + 2^-8 lies half-way and goes to the even 1; 1 + 3 2^-8 goes up to 1 + 2^-6; the largest
  // float goes to infinity.
  const std::vector<float> in = {0.0f,        -0.0f,   inf,    -inf, nan,  small_nan, 1 + 0x1p-8f,
                                 1 + 0x3p-8f, 3.4e38f, 1e-40f, 1.0f, 2.0f, 3.0f,      4.0f,
                                 5.0f,        6.0f,    7.0f,   8.0f, 9.0f};
  TensorBox box;
  const Tensor x = box.from(in, {int64_t(in.size())}),
               y = box.empty(DType::bf16, {int64_t(in.size())});
  convert(box.context(), x, y);
  for (size_t i = 0; i < in.size(); ++i)
    EXPECT_EQ(y.ptr<BFloat16>()[i].bits, BFloat16(in[i]).bits) << in[i];
  EXPECT_TRUE(std::isnan(float(y.ptr<BFloat16>()[5])));
  EXPECT_EQ(float(y.ptr<BFloat16>()[6]), 1.0f);
  EXPECT_EQ(float(y.ptr<BFloat16>()[7]), 1 + 0x1p-6f);
}

TEST(Elementwise, AddOfEveryDtype) {
  TensorBox box;
  for (const int64_t n : kSizes) {
    for (const DType ta : kFloats) {
      for (const DType tb : kFloats) {
        for (const DType to : kFloats) {
          const Tensor a = box.normal(ta, {n}, 1), b = box.normal(tb, {n}, 2),
                       out = box.empty(to, {n});
          const std::vector<double> x = to_doubles(a), y = to_doubles(b);
          std::vector<Bounded> expected;
          for (size_t i = 0; i < x.size(); ++i)
            expected.push_back({x[i] + y[i], gamma(1) * std::fabs(x[i] + y[i])});
          add(box.context(), a, b, out);
          expect_within(out, expected, "sum");
          if (ta == to) {
            add(box.context(), a, b, a);
            expect_same_bits(a, out, "in place");
          }
        }
      }
    }
  }
}

TEST(Elementwise, Fill) {
  TensorBox box;
  for (const int64_t n : kSizes) {
    for (const DType dtype : kFloats) {
      const Tensor y = box.normal(dtype, {n}, 2);
      fill_value(box.context(), y, 1.7f);
      for (double v : to_doubles(y))
        ASSERT_EQ(v, dtype == DType::f32 ? 1.7f : float(BFloat16(1.7f)));
      fill_zero(box.context(), y);
      for (double v : to_doubles(y)) ASSERT_EQ(v, 0);
    }
    const Tensor integers = box.from(std::vector<int32_t>{1, 2, 3}, {3});
    fill_zero(box.context(), integers);
    EXPECT_EQ(to_doubles(integers), (std::vector<double>{0, 0, 0}));
  }
}

TEST(Elementwise, BiasGradientAddsTheRows) {
  TensorBox box;
  for (const DType dtype : kFloats) {
    for (const int64_t rows : {0, 1, 31, 700}) {
      for (const int64_t columns : {1, 16, 77, 1030}) {
        const Tensor dy = box.normal(dtype, {rows, columns + 5}, 1).slice(1, 2, 2 + columns);
        const Tensor sum = box.normal(DType::f32, {columns}, 2),
                     again = box.normal(DType::f32, {columns}, 2);
        const std::vector<double> x = to_doubles(dy), old = to_doubles(sum);
        std::vector<Bounded> expected(static_cast<size_t>(columns));
        for (int64_t c = 0; c < columns; ++c) {
          Bounded& e = expected[size_t(c)];
          e.value = old[size_t(c)];
          double size = std::fabs(e.value);
          for (int64_t r = 0; r < rows; ++r) {
            e.value += x[size_t(r * columns + c)];
            size += std::fabs(x[size_t(r * columns + c)]);
          }
          e.bound = gamma(double(rows) + 2) * size;
        }
        with_threads(2, [&] { bias_gradient(box.context(), dy, sum); });
        with_threads(3, [&] { bias_gradient(box.context(), dy, again); });
        expect_within(sum, expected, "bias gradient");
        expect_same_bits(sum, again, "threads");
      }
    }
  }
}

TEST(Elementwise, FindsTheFirstThatIsNotFinite) {
  TensorBox box;
  for (const DType dtype : kFloats) {
    const Tensor x = box.normal(dtype, {100001}, 1);
    EXPECT_EQ(find_non_finite(box.context(), x), -1);
    const auto put = [&](int64_t i, float value) {
      if (dtype == DType::f32) x.ptr<float>()[i] = value;
      if (dtype == DType::bf16) x.ptr<BFloat16>()[i] = BFloat16(value);
    };
    for (const int64_t i : {100000, 77777, 40001, 17, 0}) {
      put(i, i % 2 ? std::nanf("") : -std::numeric_limits<float>::infinity());
      EXPECT_EQ(find_non_finite(box.context(), x), i);
    }
  }
}

TEST(Elementwise, NormalNumbersOfAnyRangeAgree) {
  TensorBox box;
  const int64_t n = 200003;
  const Tensor all = box.empty(DType::f32, {n});
  fill_normal(box.context(), all, 42, 0, 0.5f, 2.0f);
  using Range = std::pair<int64_t, int64_t>;
  for (const Range& range : {Range{0, 5}, {3, 4}, {1, 100002}, {77, 200003}, {199999, n}}) {
    const int64_t begin = range.first, end = range.second;
    const Tensor part = box.empty(DType::f32, {end - begin});
    with_threads(3, [&] { fill_normal(box.context(), part, 42, begin, 0.5f, 2.0f); });
    expect_same_bits(part, all.slice(0, begin, end), "part");
  }
  // Element 6 is the first of the second pair of counter 1.
  const Philox4 w = philox(42, 1, 0);
  float first, second;
  normal_pair(w.v[2], w.v[3], &first, &second);
  EXPECT_EQ(all.ptr<float>()[6], 0.5f + 2.0f * first);
  // Mean and variance of n draws have standard deviations 2 / sqrt(n) and 4 sqrt(2 / n); five of
  // them are allowed.
  double sum = 0, squares = 0;
  for (double v : to_doubles(all)) sum += v;
  for (double v : to_doubles(all)) squares += (v - 0.5) * (v - 0.5);
  EXPECT_NEAR(sum / double(n), 0.5, 5 * 2 / std::sqrt(double(n)));
  EXPECT_NEAR(squares / double(n), 4.0, 5 * 4 * std::sqrt(2.0 / double(n)));
  const Tensor far = box.empty(DType::f32, {3}), further = box.empty(DType::f32, {2});
  fill_normal(box.context(), far, 42, (int64_t(1) << 40) + 1, 0, 1);
  fill_normal(box.context(), further, 42, (int64_t(1) << 40) + 2, 0, 1);
  expect_same_bits(far.slice(0, 1, 3), further, "far elements");
}

TEST(Elementwise, RefusesWhatDoesNotFit) {
  TensorBox box;
  const Context& ctx = box.context();
  const Tensor x = box.zeros(DType::f32, {4}), y = box.zeros(DType::f32, {5}),
               i = box.zeros(DType::i32, {4});
  EXPECT_NE(error_of([&] { add(ctx, x, y, x); }).find("as many elements"), std::string::npos);
  EXPECT_NE(error_of([&] { convert(ctx, i, x); }).find("fp32 or bf16"), std::string::npos);
  EXPECT_NE(error_of([&] {
              fill_zero(ctx, box.zeros(DType::f32, {4, 4}).slice(1, 0, 2));
            }).find("contiguous"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              bias_gradient(ctx, box.zeros(DType::f32, {2, 3}), x);
            }).find("shape [3]"),
            std::string::npos);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(Elementwise, MoreThanTwoToThe31Elements) {
  const int64_t n = (int64_t(1) << 31) + 17;
  TensorBox box(n * 2 + 4096);
  const Tensor x = box.empty(DType::bf16, {n});
  fill_value(box.context(), x, 1.0f);
  EXPECT_EQ(find_non_finite(box.context(), x), -1);
  x.ptr<BFloat16>()[n - 3] = BFloat16(std::nanf(""));
  EXPECT_EQ(find_non_finite(box.context(), x), n - 3);
}
#endif

}  // namespace
}  // namespace forja::testing
