// SPDX-License-Identifier: Apache-2.0
#include "forja/base/json.h"

#include "tests/testing/testing.h"

namespace forja {
namespace {

std::string fault(const std::string& text, JsonKeys keys = JsonKeys::repeated) {
  return testing::error_of([&] { parse_json(text, keys); }, ExitCode::bad_input);
}

TEST(Json, DeepValuesAreRefused) {
  const auto nested = [](int depth) {
    return std::string(size_t(depth), '[') + std::string(size_t(depth), ']');
  };
  EXPECT_EQ(parse_json(nested(100)).dump(), nested(100));
  EXPECT_EQ(fault(nested(101)), "values are nested deeper than 100 at byte 100");
  EXPECT_EQ(fault(std::string(1 << 20, '[')), "values are nested deeper than 100 at byte 100");
  // Brackets of texts are none.
  const std::string text = R"(["\"[[", {"]\\": ")" + std::string(200, '[') + R"("}])";
  EXPECT_EQ(parse_json(text).size(), 2u);
}

TEST(Json, RepeatedKeys) {
  const std::string text = R"({"a": {"b": 1, "c": [{"b": 2}]}, "b": 3, "a": 4})";
  EXPECT_EQ(parse_json(text)["a"], 4);
  EXPECT_EQ(fault(text, JsonKeys::once), "the key \"a\" is there twice");
  const std::string once = R"({"a": {"b": 1, "c": [{"b": 2}, {"b": 2}]}, "b": 3})";
  EXPECT_EQ(parse_json(once, JsonKeys::once), parse_json(once));
}

TEST(Json, MessagesAreShort) {
  EXPECT_NE(fault("").find("not JSON"), std::string::npos);
  EXPECT_LT(fault("\"" + std::string(100000, 'x')).size(), 400u);
  EXPECT_EQ(shown(std::string(1000, 'x')).size(), 80u);
  EXPECT_EQ(shown(parse_json("[1]")), "array");
}

TEST(Json, Integers) {
  EXPECT_EQ(json_integer(parse_json("5"), "x"), 5);
  EXPECT_EQ(json_integer(parse_json("-5"), "x", -5), -5);
  for (const char* wrong : {"-1", "1.0", "1e300", "true", "null", "\"1\"", "[1]", "281474976710657",
                            "9223372036854775808", "18446744073709551615"}) {
    const std::string message =
        testing::error_of([&] { json_integer(parse_json(wrong), "a size"); }, ExitCode::bad_input);
    EXPECT_EQ(message.find("a size is "), 0u) << message;
  }
}

}  // namespace
}  // namespace forja
