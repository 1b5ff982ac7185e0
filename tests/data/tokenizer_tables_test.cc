// SPDX-License-Identifier: Apache-2.0
// Tokenizers as tables: spelling, kinds, merges and scores.
#include "forja/data/tokenizer_tables.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "forja/base/file.h"
#include "tests/data/small_data.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using nlohmann::json;

TokenizerTables tables_of(const json& j) {
  const testing::TemporaryDirectory folder;
  write_file(folder.file("tokenizer.json"), j.dump());
  return read_tokenizer_tables(folder.path());
}

json added(int id, const std::string& content, bool special) {
  return {{"id", id}, {"content", content}, {"special", special}};
}

// Characters with "▁" for a space, as Llama 2's tokenizer.json has them.
json words() {
  json vocab = {{"<unk>", 0}, {"<s>", 1}, {"a", 2},  {"b", 3},
                {"▁", 4},     {"ab", 5},  {"▁a", 6}, {"▁ab", 7}};
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = 9 + byte;
  return {
      {"added_tokens", {added(0, "<unk>", true), added(1, "<s>", true), added(8, "<x>", false)}},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers",
         {{{"type", "Prepend"}, {"prepend", "▁"}},
          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}}}}},
      {"model",
       {{"type", "BPE"},
        {"byte_fallback", true},
        {"vocab", vocab},
        {"merges", {"a b", "▁ a", "▁ ab", "▁a b"}}}}};
}

TEST(TokenizerTables, ByteLevel) {
  const json j = json::parse(testing::small_tokenizer_json());
  const TokenizerTables tables = tables_of(j);
  EXPECT_EQ(tables.model, TokenizerTables::Model::byte_level);
  EXPECT_TRUE(tables.scores.empty());
  for (const auto& [text, id] : j["model"]["vocab"].items()) {
    EXPECT_EQ(tables.tokens.at(id.get<size_t>()), text);
    EXPECT_NE(tables.kinds.at(id.get<size_t>()), TokenKind::absent);
  }
  EXPECT_EQ(tables.merges, j["model"]["merges"].get<std::vector<std::string>>());
  EXPECT_EQ(tables.split, "gpt-2");
  EXPECT_FALSE(tables.adds_prefix);
}

TEST(TokenizerTables, WordsWithScores) {
  const TokenizerTables tables = tables_of(words());
  EXPECT_EQ(tables.model, TokenizerTables::Model::sentencepiece);
  ASSERT_EQ(tables.tokens.size(), 9u + 256u);
  using K = TokenKind;
  const std::vector<std::pair<std::string, K>> wanted = {
      {"<unk>", K::unknown},    {"<s>", K::control}, {"a", K::normal},   {"b", K::normal},
      {"▁", K::normal},         {"ab", K::normal},   {"▁a", K::normal},  {"▁ab", K::normal},
      {"<x>", K::user_defined}, {"<0x00>", K::byte}, {"<0x01>", K::byte}};
  for (size_t id = 0; id < wanted.size(); ++id) {
    EXPECT_EQ(tables.tokens[id], wanted[id].first);
    EXPECT_EQ(tables.kinds[id], wanted[id].second) << id;
  }
  EXPECT_EQ(tables.kinds.back(), K::byte);
  // In the order of the merges; the two that make "▁ab" are one.
  std::vector<float> scores(tables.tokens.size(), 0.0f);
  scores[6] = -1.0f;
  scores[7] = -2.0f;
  EXPECT_EQ(tables.scores, scores);
  EXPECT_TRUE(tables.adds_prefix);
  EXPECT_FALSE(tables.normalizes);
}

TEST(TokenizerTables, MergesThatNoScoresReproduce) {
  json j = words();
  j["model"]["merges"] = {"▁ ab", "a b", "▁ a", "▁a b"};
  const std::string said = testing::error_of([&] { tables_of(j); }, ExitCode::bad_input);
  EXPECT_NE(said.find("the merges that make \"▁ab\" do not stand together"), std::string::npos)
      << said;
}

TEST(TokenizerTables, ATiktokenFileIsThatOfTheJson) {
  FORJA_REQUIRE_ASSET(json_file, "tokenizers/llama3/tokenizer.json");
  FORJA_REQUIRE_ASSET(tiktoken, "tokenizers/llama3/tokenizer.model");
  const TokenizerTables a = read_tokenizer_tables(json_file), b = read_tokenizer_tables(tiktoken);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.kinds, b.kinds);
  EXPECT_EQ(a.split, "llama-3");
  EXPECT_EQ(b.split, "llama-3");
  EXPECT_TRUE(a.ignore_merges && b.ignore_merges);
  EXPECT_EQ(a.merges.size(), b.merges.size());
}

TEST(TokenizerTables, Qwen) {
  FORJA_REQUIRE_ASSET(file, "tokenizers/qwen2.5/tokenizer.json");
  EXPECT_EQ(read_tokenizer_tables(file).split, "qwen-2");
}

TEST(TokenizerTables, SentencePiece) {
  FORJA_REQUIRE_ASSET(file, "tokenizers/llama2/tokenizer.model");
  const TokenizerTables tables = read_tokenizer_tables(file);
  ASSERT_EQ(tables.tokens.size(), 32000u);
  EXPECT_EQ(tables.tokens[0], "<unk>");
  EXPECT_EQ(tables.kinds[0], TokenKind::unknown);
  EXPECT_EQ(tables.kinds[2], TokenKind::control);
  EXPECT_EQ(std::count(tables.kinds.begin(), tables.kinds.end(), TokenKind::byte), 256);
  // Minus the place among what follows the bytes; runs of spaces are below all.
  for (size_t id = 259; id < 32000; ++id) {
    if (tables.scores[id] > -1e8f) {
      ASSERT_EQ(tables.scores[id], 259.0f - float(id));
    }
  }
  EXPECT_TRUE(tables.adds_prefix);
  EXPECT_FALSE(tables.normalizes);
}

TEST(TokenizerTables, ScoresOfAJsonAreThoseOfTheSentencePieceModel) {
  FORJA_REQUIRE_ASSET(json_file, "tokenizers/mistral/tokenizer.json");
  FORJA_REQUIRE_ASSET(model, "tokenizers/mistral/tokenizer.model.v1");
  const TokenizerTables a = read_tokenizer_tables(json_file), b = read_tokenizer_tables(model);
  ASSERT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.kinds, b.kinds);
  // The same order among the tokens that merges make; runs of spaces are all alike in the model.
  std::vector<size_t> made;
  for (size_t id = 0; id < a.tokens.size(); ++id)
    if (a.scores[id] < 0.0f) made.push_back(id);
  std::sort(made.begin(), made.end(),
            [&](size_t x, size_t y) { return a.scores[x] > a.scores[y]; });
  EXPECT_GT(made.size(), 25000u);
  for (size_t i = 1; i < made.size(); ++i)
    ASSERT_GE(b.scores[made[i - 1]], b.scores[made[i]]) << a.tokens[made[i]];
}

}  // namespace
}  // namespace forja
