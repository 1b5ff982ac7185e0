// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/rope.h"

#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

struct Tables {
  Tensor cos, sin;
};

Tables make_tables(TensorBox& box, int64_t positions, int64_t half) {
  Tables t{box.empty(DType::f32, {positions, half}), box.empty(DType::f32, {positions, half})};
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = double(p) * std::pow(10000.0, -double(i) / double(half));
      t.cos.ptr<float>()[p * half + i] = float(std::cos(angle));
      t.sin.ptr<float>()[p * half + i] = float(std::sin(angle));
    }
  }
  return t;
}

std::vector<Bounded> reference(const Tensor& x, const std::vector<int32_t>& positions,
                               const Tables& tables, double sign) {
  const std::vector<double> v = to_doubles(x), cos = to_doubles(tables.cos),
                            sin = to_doubles(tables.sin);
  std::vector<Bounded> out(v.size());
  const int64_t heads = x.size(1), half = x.size(2) / 2;
  for (int64_t row = 0; row < x.size(0) * heads; ++row) {
    for (int64_t i = 0; i < half; ++i) {
      const size_t a = size_t(row * 2 * half + i), b = a + size_t(half);
      const size_t at = size_t(positions[size_t(row / heads)] * half + i);
      const double c = cos[at], s = sign * sin[at];
      out[a] = {v[a] * c - v[b] * s, gamma(2) * (std::fabs(v[a] * c) + std::fabs(v[b] * s))};
      out[b] = {v[b] * c + v[a] * s, gamma(2) * (std::fabs(v[b] * c) + std::fabs(v[a] * s))};
    }
  }
  return out;
}

TEST(Rope, RotatesBothWays) {
  TensorBox box;
  const std::vector<int32_t> positions = {0, 1, 2, 0, 1, 17, 3};
  const Tensor position = box.from(positions, {7});
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t dim : {2, 6, 32, 44, 128}) {
      const Tables tables = make_tables(box, 18, dim / 2);
      const Tensor qkv = box.normal(dtype, {7, 6, dim}, 1), x = qkv.slice(1, 1, 4);
      const std::vector<double> others = to_doubles(qkv.slice(1, 4, 6));
      for (const RopeDirection direction : {RopeDirection::forward, RopeDirection::backward}) {
        const std::vector<Bounded> expected =
            reference(x, positions, tables, direction == RopeDirection::forward ? 1.0 : -1.0);
        rope(box.context(), x, position, tables.cos, tables.sin, direction);
        expect_within(x, expected, "rotated");
      }
      EXPECT_EQ(to_doubles(qkv.slice(1, 4, 6)), others);
    }
  }
}

TEST(Rope, RefusesWhatDoesNotFit) {
  TensorBox box;
  const Context& ctx = box.context();
  const Tables tables = make_tables(box, 4, 8);
  const Tensor x = box.zeros(DType::f32, {2, 3, 16}),
               positions = box.from(std::vector<int32_t>{0, 4}, {2});
  const auto message = [&](const Tensor& t, const Tensor& p) {
    return error_of([&] { rope(ctx, t, p, tables.cos, tables.sin, RopeDirection::forward); });
  };
  EXPECT_NE(message(x, positions).find("positions[1] is 4, outside [0, 4)"), std::string::npos);
  EXPECT_NE(message(box.zeros(DType::f32, {2, 3, 15}), positions).find("even"), std::string::npos);
  EXPECT_NE(message(box.zeros(DType::f32, {2, 3, 8}), positions).find("cos must have shape [4, 4]"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
