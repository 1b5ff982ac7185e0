// SPDX-License-Identifier: Apache-2.0
// The GGUF format: rounding of each type, and the layout of a file.
#include "forja/checkpoint/gguf.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>

#include "tests/checkpoint/gguf_reader.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

std::string as(GgufType type, const std::vector<float>& values) {
  std::string bytes;
  EXPECT_EQ(append_as(type, values.data(), int64_t(values.size()), &bytes), int64_t(values.size()));
  return bytes;
}

uint16_t half_in(const std::string& bytes, size_t at = 0) {
  return uint16_t(uint8_t(bytes[at]) | uint8_t(bytes[at + 1]) << 8);
}

TEST(Gguf, Fp16ByHand) {
  const auto half = [](float value) { return half_in(as(GgufType::f16, {value})); };
  EXPECT_EQ(half(0.0f), 0x0000);
  EXPECT_EQ(half(-0.0f), 0x8000);
  EXPECT_EQ(half(1.0f), 0x3C00);
  EXPECT_EQ(half(-2.0f), 0xC000);
  EXPECT_EQ(half(65504.0f), 0x7BFF);                    // the largest
  EXPECT_EQ(half(1.0f + 0x1p-11f), 0x3C00);             // a tie goes to the even one
  EXPECT_EQ(half(1.0f + 0x3p-11f), 0x3C02);             // ... up, here
  EXPECT_EQ(half(1.0f + 0x1p-11f + 0x1p-23f), 0x3C01);  // just above a tie
  EXPECT_EQ(half(2.0f - 0x1p-12f), 0x4000);             // carries into the exponent
  EXPECT_EQ(half(0x1p-24f), 0x0001);                    // the smallest
  EXPECT_EQ(half(0x1p-25f), 0x0000);                    // a tie with zero
  EXPECT_EQ(half(0x1p-14f - 0x1p-26f), 0x0400);         // a subnormal becomes a normal one
}

TEST(Gguf, Bf16RoundsToNearestEven) {
  const auto bits = [](float value) { return half_in(as(GgufType::bf16, {value})); };
  EXPECT_EQ(bits(1.0f), 0x3F80);
  EXPECT_EQ(bits(1.0f + 0x1p-8f), 0x3F80);
  EXPECT_EQ(bits(1.0f + 0x3p-8f), 0x3F82);
}

TEST(Gguf, WhatATypeCannotHold) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto first_bad = [](GgufType type, float value, size_t n, size_t at) {
    std::vector<float> values(n, 1.0f);
    values[at] = value;
    std::string bytes;
    return append_as(type, values.data(), int64_t(n), &bytes);
  };
  EXPECT_EQ(first_bad(GgufType::f16, 65519.0f, 3, 1), 3);  // rounds down to 65504
  EXPECT_EQ(first_bad(GgufType::f16, -65520.0f, 3, 1), 1);
  EXPECT_EQ(first_bad(GgufType::f16, NAN, 3, 2), 2);
  EXPECT_EQ(first_bad(GgufType::q8_0, infinity, 64, 40), 40);
  EXPECT_EQ(first_bad(GgufType::q8_0, NAN, 64, 63), 63);
  EXPECT_EQ(first_bad(GgufType::q8_0, 127.0f * 65504.0f, 64, 33), 64);
  EXPECT_EQ(first_bad(GgufType::q8_0, -127.0f * 65536.0f, 64, 33), 33);
  EXPECT_EQ(first_bad(GgufType::bf16, infinity, 3, 0), 3);
}

TEST(Gguf, Q8ByHand) {
  // The largest is 127, so the scale is 1 and each number is its own rounding.
  std::vector<float> values(32, 0.0f);
  const std::vector<float> first = {127, -127, 0.5f, -0.5f, 1.5f, 2.5f, -2.5f, 0.49f, 126.5f, 3};
  std::copy(first.begin(), first.end(), values.begin());
  const std::string block = as(GgufType::q8_0, values);
  ASSERT_EQ(block.size(), 34u);
  EXPECT_EQ(half_in(block), 0x3C00);
  const std::vector<int> wanted = {127, -127, 1, -1, 2, 3, -3, 0, 127, 3};  // halves away from zero
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_EQ(int(int8_t(block[2 + i])), wanted[i]) << i;
  for (size_t i = wanted.size(); i < 32; ++i) EXPECT_EQ(block[2 + i], 0);
  // Zeros, and a block so small that its scale is none.
  EXPECT_EQ(as(GgufType::q8_0, std::vector<float>(32, 0.0f)), std::string(34, '\0'));
  EXPECT_EQ(half_in(as(GgufType::q8_0, std::vector<float>(32, 1e-40f))), 0);
}

TEST(Gguf, Q8UsesTheScaleBeforeItsRounding) {
  // 100 / 127 = 0.7874016 is 0.78759765625 in fp16; 66.5 scale-steps of the exact one round up to
  // 67, of the rounded one they would be 66.48 and round down.
  const float scale = 100.0f / 127.0f;
  std::vector<float> values(32, 0.0f);
  values[0] = 100.0f;
  values[1] = 66.5001f * scale;
  const std::string block = as(GgufType::q8_0, values);
  EXPECT_EQ(half_to_float(half_in(block)), 0.78759765625f);
  EXPECT_EQ(int(int8_t(block[2])), 127);
  EXPECT_EQ(int(int8_t(block[3])), 67);
}

TEST(Gguf, Q8IsWithinHalfAStep) {
  testing::TensorBox box(1 << 20);
  const int64_t n = 32 * 200;
  const Tensor values = box.normal(DType::f32, {n}, 7, 0.02);
  std::string bytes;
  ASSERT_EQ(append_as(GgufType::q8_0, values.ptr<float>(), n, &bytes), n);
  ASSERT_EQ(int64_t(bytes.size()), n / 32 * 34);
  for (int64_t b = 0; b < n / 32; ++b) {
    float largest = 0.0f;
    for (int64_t i = 0; i < 32; ++i)
      largest = std::max(largest, std::fabs(values.ptr<float>()[b * 32 + i]));
    const float scale = half_to_float(half_in(bytes, size_t(b) * 34));
    // fp16 has 11 bits, and rounding is to half of the last; a number is at most 127.
    const float bound = largest / 127.0f * 0.5f + largest * 0x1p-11f + 127.0f * 0x1p-25f;
    bool reached = false;
    for (int64_t i = 0; i < 32; ++i) {
      const int q = int8_t(bytes[size_t(b) * 34 + 2 + size_t(i)]);
      reached |= std::abs(q) == 127;
      EXPECT_LE(std::fabs(float(q) * scale - values.ptr<float>()[b * 32 + i]), bound);
    }
    EXPECT_TRUE(reached);
  }
}

TEST(Gguf, LayoutOfAFile) {
  testing::TemporaryDirectory folder;
  const std::string path = folder.file("x.gguf");
  const GgufMetadata metadata = {{"a.text", std::string("caña")},
                                 {"a.number", uint32_t(7)},
                                 {"a.float", 0.5f},
                                 {"a.yes", true},
                                 {"a.ids", std::vector<int32_t>{1, -2}},
                                 {"a.scores", std::vector<float>{-1.5f}},
                                 {"a.words", std::vector<std::string>{"x", "", "zz"}},
                                 {"a.none", std::vector<std::string>{}}};
  std::vector<float> matrix(3 * 32), row = {1, 2, 3};
  std::iota(matrix.begin(), matrix.end(), -40.0f);
  GgufWriter writer(path, metadata,
                    {{"one", GgufType::f32, {3}},
                     {"two", GgufType::f16, {3, 32}},
                     {"three", GgufType::q8_0, {3, 32}},
                     {"four", GgufType::bf16, {3}}});
  for (const auto* values : {&row, &matrix, &matrix, &row}) {
    EXPECT_FALSE(file_exists(path));
    writer.write(values->data());
  }
  writer.commit();

  const testing::GgufFile file(path);
  EXPECT_EQ(file.texts.at("a.text"), "caña");
  EXPECT_EQ(file.numbers,
            (std::map<std::string, double>{{"a.float", 0.5}, {"a.number", 7.0}, {"a.yes", 1.0}}));
  EXPECT_EQ(file.lists.at("a.ids"), (std::vector<double>{1, -2}));
  EXPECT_EQ(file.lists.at("a.scores"), std::vector<double>{-1.5});
  EXPECT_EQ(file.text_lists.at("a.words"), (std::vector<std::string>{"x", "", "zz"}));
  EXPECT_EQ(file.text_lists.count("a.none"), 0u);
  EXPECT_EQ(file.tensors.at("two").dims, (std::vector<uint64_t>{32, 3}));
  EXPECT_EQ(file.values("one"), row);
  EXPECT_EQ(file.values("two"), matrix);
  EXPECT_EQ(file.values("four"), row);
  EXPECT_EQ(file.tensors.at("three").type, 8u);
  EXPECT_EQ(file.tensors.at("three").data, as(GgufType::q8_0, matrix));
}

TEST(Gguf, NothingStaysOfAFileThatIsNotWhole) {
  testing::TemporaryDirectory folder;
  const std::string path = folder.file("x.gguf");
  {
    GgufWriter writer(path, {}, {{"one", GgufType::f16, {2}}, {"two", GgufType::f16, {2}}});
    const float fine[] = {1, 2}, large[] = {1, 1e6f};
    writer.write(fine);
    EXPECT_THROW(writer.commit(), Error);
    EXPECT_EQ(testing::error_of([&] { writer.write(large); }, ExitCode::bad_input),
              "1000000 of two has no place in fp16: choose bf16 or fp32");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace forja
