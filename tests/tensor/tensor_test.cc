// SPDX-License-Identifier: Apache-2.0
#include "forja/tensor/tensor.h"

#include "tests/testing/testing.h"

namespace forja {
namespace {

TEST(Tensor, Views) {
  std::vector<float> data(24);
  for (size_t i = 0; i < data.size(); ++i) data[i] = float(i);
  const Tensor t = make_tensor(data.data(), DType::f32, {4, 6});
  EXPECT_TRUE(t.is_contiguous());
  EXPECT_EQ(t.num_bytes(), 96);
  EXPECT_EQ(t.size(-1), 6);
  const Tensor s = t.slice(1, 2, 4);
  EXPECT_FALSE(s.is_contiguous());
  EXPECT_EQ(testing::to_doubles(s), (std::vector<double>{2, 3, 8, 9, 14, 15, 20, 21}));
  EXPECT_EQ(testing::to_doubles(t.select(0, 1)), (std::vector<double>{6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(testing::to_doubles(s.transposed().select(0, 1)), (std::vector<double>{3, 9, 15, 21}));
  EXPECT_EQ(testing::to_doubles(t.view({2, 12}).select(0, 1))[0], 12);
  EXPECT_EQ(s.to_string(), "fp32[4, 2] strides [6, 1]");
  EXPECT_TRUE(t.has_shape({4, 6}));
  EXPECT_FALSE(Tensor{}.defined());
}

TEST(Tensor, FaultsThrow) {
  std::vector<float> data(24);
  const Tensor t = make_tensor(data.data(), DType::f32, {4, 6});
  testing::error_of([&] { t.ptr<int32_t>(); });
  testing::error_of([&] { t.slice(0, 2, 5); });
  testing::error_of([&] { t.view({5, 5}); });
  testing::error_of([&] { t.transposed().view({24}); });
  testing::error_of([&] { make_tensor(data.data(), DType::f32, {-1}); });
}

TEST(Tensor, ElementsBeyondTwoToTheThirtyOne) {
  Arena plan("plan");
  const Tensor t = allocate(plan, DType::bf16, {70000, 70000});
  EXPECT_EQ(t.num_elements(), 4900000000);
  EXPECT_EQ(plan.peak_bytes(), 9800000000);
}

}  // namespace
}  // namespace forja
