// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/split_pattern.h"

#include "forja/base/file.h"
#include "tests/data/small_data.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::error_of;

const char* const kQwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                           R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<std::string> pieces(const Splitter& splitter, std::string_view text) {
  std::vector<std::string> out;
  std::vector<size_t> ends;
  for (size_t begin = 0; begin < text.size();) {
    splitter.split(text, begin, &ends);
    if (ends.empty()) {
      ADD_FAILURE() << "no progress at " << begin;
      break;
    }
    for (size_t end : ends) {
      out.emplace_back(text.substr(begin, end - begin));
      begin = end;
    }
  }
  return out;
}

using Strings = std::vector<std::string>;

TEST(SplitPattern, Gpt2Words) {
  const auto splitter = make_splitter(kGpt2Pattern);
  EXPECT_EQ(pieces(*splitter, "I'll say: it's  12 o'clock!\n\n  yes "),
            (Strings{"I", "'ll", " say", ":", " it", "'s", " ", " 12", " o", "'", "clock", "!",
                     "\n\n ", " yes", " "}));
  EXPECT_EQ(pieces(*splitter, ""), Strings{});
}

TEST(SplitPattern, Llama3Words) {
  const auto splitter = make_splitter(kLlama3Pattern);
  EXPECT_EQ(pieces(*splitter, "It'S 12345 (ok).\n\n\n  \n end\tx"),
            (Strings{"It", "'S", " ", "123", "45", " (", "ok", ").\n\n\n", "  \n", " end", "\tx"}));
}

// The written matchers against PCRE2, on text dense in the cases that matter.
TEST(SplitPattern, AgreesWithPcre2) {
  for (const char* pattern : {kGpt2Pattern, kLlama3Pattern, kQwen2}) {
    const auto fast = make_splitter(pattern), regex = make_regex_splitter(pattern);
    std::mt19937 random(7);
    for (int round = 0; round < 4000; ++round) {
      const std::string text = testing::random_text(random, int(1 + random() % 60));
      ASSERT_EQ(pieces(*fast, text), pieces(*regex, text)) << pattern << "\n\"" << text << '"';
    }
  }
}

// Every single code point, alone and between letters.
TEST(SplitPattern, AgreesWithPcre2OnEveryCharacter) {
  std::string text;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    text += "a ";
    testing::append_utf8(c, &text);
    testing::append_utf8(c, &text);
    text += "b";
  }
  for (const char* pattern : {kGpt2Pattern, kLlama3Pattern}) {
    EXPECT_TRUE(pieces(*make_splitter(pattern), text) ==
                pieces(*make_regex_splitter(pattern), text))
        << pattern;
  }
}

TEST(SplitPattern, LongRunsOfSpaces) {
  const std::string text = std::string(3'000'000, ' ') + "x" + std::string(1'000'000, '\n') + " y";
  for (const char* pattern : {kGpt2Pattern, kLlama3Pattern}) {
    EXPECT_TRUE(pieces(*make_splitter(pattern), text) ==
                pieces(*make_regex_splitter(pattern), text))
        << pattern;
  }
}

TEST(SplitPattern, OtherPatternsKeepTheGaps) {
  EXPECT_EQ(pieces(*make_splitter(R"(\d+)"), "ab12c3"), (Strings{"ab", "12", "c", "3"}));
  EXPECT_EQ(pieces(*make_splitter(R"(x*)"), "axxb"), (Strings{"a", "xx", "b"}));
}

TEST(SplitPattern, BadPatternIsRefused) {
  EXPECT_NE(error_of([] { make_splitter("(a"); }, ExitCode::bad_input).find("(a"),
            std::string::npos);
}

}  // namespace
}  // namespace forja
