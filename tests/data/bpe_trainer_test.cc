// SPDX-License-Identifier: Apache-2.0
#include "forja/data/bpe_trainer.h"

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "forja/base/text.h"
#include "forja/data/tokenizer.h"
#include "tests/data/small_data.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;

// Algorithm 1 with counts taken anew for every merge, over ASCII words separated by spaces. GPT-2
// spells the space "Ġ".
std::vector<std::string> train_naively(const std::string& text, int merges) {
  std::map<std::vector<std::string>, int64_t> words;
  std::string word;
  for (char c : text + " ") {
    if (c == ' ' && !word.empty()) {
      std::vector<std::string> symbols;
      for (char b : word) symbols.push_back(b == ' ' ? "\xC4\xA0" : std::string(1, b));
      ++words[symbols];
      word.clear();
    }
    word += c;
  }
  // Ids: the order of the characters, then of the merges.
  std::map<std::string, int> ids;
  for (int c = 33; c < 127; ++c) ids[std::string(1, char(c))] = c;
  ids["\xC4\xA0"] = 127;
  std::vector<std::string> result;
  for (int i = 0; i < merges; ++i) {
    std::map<std::pair<std::string, std::string>, int64_t> counts;
    for (const auto& [symbols, count] : words) {
      for (size_t k = 0; k + 1 < symbols.size(); ++k) counts[{symbols[k], symbols[k + 1]}] += count;
    }
    std::pair<std::string, std::string> best;
    int64_t best_count = 0;
    for (const auto& [pair, count] : counts) {
      const bool lower = best_count > 0 && std::pair(ids.at(pair.first), ids.at(pair.second)) <
                                               std::pair(ids.at(best.first), ids.at(best.second));
      if (count > best_count || (count == best_count && lower)) {
        best = pair;
        best_count = count;
      }
    }
    if (best_count < 2) break;
    result.push_back(best.first + " " + best.second);
    ids.emplace(best.first + best.second, 1000 + i);
    std::map<std::vector<std::string>, int64_t> next;
    for (const auto& [symbols, count] : words) {
      std::vector<std::string> merged;
      for (size_t k = 0; k < symbols.size(); ++k) {
        if (k + 1 < symbols.size() && symbols[k] == best.first && symbols[k + 1] == best.second) {
          merged.push_back(symbols[k] + symbols[k + 1]);
          ++k;
        } else {
          merged.push_back(symbols[k]);
        }
      }
      next[merged] += count;
    }
    words = next;
  }
  return result;
}

TEST(BpeTrainer, FollowsTheDefinition) {
  std::mt19937 random(23);
  for (int round = 0; round < 20; ++round) {
    std::string text = "a";
    for (int i = 0; i < 600; ++i) {
      const char c = "aaabbcd "[random() % 8];
      if (c != ' ' || text.back() != ' ') text += c;
    }
    if (text.back() == ' ') text.pop_back();
    BpeTrainer trainer({256 + 60 + 1});
    trainer.add(text);
    const auto merges =
        nlohmann::json::parse(trainer.train({}))["model"]["merges"].get<std::vector<std::string>>();
    const std::vector<std::string> expected = train_naively(text, int(merges.size()));
    ASSERT_EQ(merges, expected) << text;
  }
}

TEST(BpeTrainer, ResultLoadsAndTextsComeBack) {
  const TemporaryDirectory folder;
  testing::write_small_tokenizer(folder.file("tokenizer.json"), 340);
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->vocab_size(), 340);
  EXPECT_EQ(tokenizer->eos_id(), 339);
  EXPECT_EQ(tokenizer->token_text(0), "!");
  EXPECT_EQ(tokenizer->encode(" the").size(), 1u);  // frequent words are single tokens
  std::mt19937 random(29);
  for (int i = 0; i < 200; ++i) {
    const std::string text = testing::random_text(random, 50);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

TEST(BpeTrainer, OrderOfDocumentsDoesNotMatter) {
  BpeTrainer a({400}), b({400});
  const std::vector<std::string> texts = {"one two two three", "three four five six six",
                                          "one six four ten eleven"};
  for (int i = 0; i < 3; ++i) a.add(texts[size_t(i)]);
  for (int i = 2; i >= 0; --i) b.add(texts[size_t(i)]);
  EXPECT_EQ(a.train({}), b.train({}));
}

TEST(BpeTrainer, SmallTextsGiveSmallVocabularies) {
  BpeTrainer trainer({50000});
  trainer.add("abab abab");
  const auto json = nlohmann::json::parse(trainer.train({}));
  EXPECT_LT(json["model"]["vocab"].size(), 262u);
}

TEST(BpeTrainer, FilesToFile) {
  const TemporaryDirectory folder;
  write_file(folder.file("a.txt"), "uno dos tres uno dos tres");
  write_file(folder.file("b.jsonl"), "{\"text\": \"uno dos\"}\n{\"text\": \"tres\"}\n");
  int calls = 0;
  const TrainTokenizerResult result = train_tokenizer(
      {folder.file("a.txt"), folder.file("b.jsonl")}, {}, {260}, folder.file("out.json"),
      [&](const TrainTokenizerProgress& p) { calls += p.bytes_total > 0; });
  EXPECT_EQ(result.vocab_size, 260);
  EXPECT_EQ(result.num_documents, 3);
  EXPECT_EQ(result.num_text_bytes, 25 + 7 + 4);
  EXPECT_GT(calls, 0);
}

TEST(BpeTrainer, BadInput) {
  const TemporaryDirectory folder;
  EXPECT_NE(error_of([] { BpeTrainer trainer({256}); }, ExitCode::bad_input).find("257"),
            std::string::npos);
  EXPECT_NE(error_of([] { BpeTrainer({300}).train({}); }, ExitCode::bad_input).find("no text"),
            std::string::npos);
  EXPECT_NE(error_of([] { BpeTrainer({300}).add("\xFF"); }, ExitCode::bad_input).find("UTF-8"),
            std::string::npos);
  write_file(folder.file("a.txt"), " \n");
  error_of([&] { train_tokenizer({folder.file("a.txt")}, {}, {300}, folder.file("out.json"), {}); },
           ExitCode::bad_input);
  EXPECT_FALSE(std::filesystem::exists(folder.file("out.json")));
}

}  // namespace
}  // namespace forja
