// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/bpe_model.h"

#include <random>

#include "tests/testing/testing.h"

namespace forja {
namespace {

// The definition, literally: of all mergeable neighbours the lowest rank, the leftmost of equals.
std::vector<int32_t> merge_naively(const std::vector<std::string>& tokens,
                                   const std::vector<BpeMerge>& merges, const std::string& piece) {
  std::vector<int32_t> ids;
  for (char c : piece) {
    for (size_t id = 0; id < tokens.size(); ++id) {
      if (tokens[id] == std::string(1, c)) ids.push_back(int32_t(id));
    }
  }
  while (true) {
    const BpeMerge* best = nullptr;
    size_t where = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      for (const BpeMerge& m : merges) {
        if (m.left == ids[i] && m.right == ids[i + 1] && (!best || m.rank < best->rank)) {
          best = &m;
          where = i;
        }
      }
    }
    if (!best) return ids;
    ids[where] = best->result;
    ids.erase(ids.begin() + ptrdiff_t(where) + 1);
  }
}

struct Random {
  std::vector<std::string> tokens;
  std::vector<BpeMerge> merges;
};

// Merges of random pairs over the letters a-d.
Random random_merges(std::mt19937& random, int count) {
  Random r;
  for (char c = 'a'; c <= 'd'; ++c) r.tokens.push_back(std::string(1, c));
  while (int(r.merges.size()) < count) {
    const int32_t left = int32_t(random() % r.tokens.size()),
                  right = int32_t(random() % r.tokens.size());
    const std::string text = r.tokens[size_t(left)] + r.tokens[size_t(right)];
    if (text.size() > 9) continue;
    if (std::find(r.tokens.begin(), r.tokens.end(), text) != r.tokens.end()) continue;
    r.merges.push_back({left, right, int32_t(r.merges.size()), int32_t(r.tokens.size())});
    r.tokens.push_back(text);
  }
  std::shuffle(r.merges.begin(), r.merges.end(), random);  // ranks unlike the order of making
  for (size_t i = 0; i < r.merges.size(); ++i) r.merges[i].rank = int32_t(i);
  return r;
}

TEST(BpeModel, ShortAndLongPiecesFollowTheDefinition) {
  std::mt19937 random(3);
  for (int round = 0; round < 30; ++round) {
    const Random r = random_merges(random, 40);
    const BpeModel model(r.tokens, r.merges, BpeAlphabet::bytes, false);
    BpeScratch scratch;
    for (int i = 0; i < 60; ++i) {
      std::string piece;
      const int length = 1 + int(random() % (i % 3 == 0 ? 200 : 30));
      for (int k = 0; k < length; ++k) piece += char('a' + random() % 4);
      for (int repeat = 0; repeat < 2; ++repeat) {  // the second time from the cache
        std::vector<int32_t> ids;
        model.encode_piece(piece, &scratch, &ids);
        ASSERT_EQ(ids, merge_naively(r.tokens, r.merges, piece)) << piece;
      }
    }
  }
}

TEST(BpeModel, IgnoreMergesTakesTheWholePiece) {
  const std::vector<std::string> tokens = {"a", "b", "c", "ab", "bc", "abc"};
  const std::vector<BpeMerge> merges = {{1, 2, 0, 4}, {0, 1, 1, 3}};
  BpeScratch one, two;
  std::vector<int32_t> ids;
  BpeModel(tokens, merges, BpeAlphabet::bytes, false).encode_piece("abc", &one, &ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{0, 4}));
  ids.clear();
  BpeModel(tokens, merges, BpeAlphabet::bytes, true).encode_piece("abc", &two, &ids);
  EXPECT_EQ(ids, std::vector<int32_t>{5});
}

TEST(BpeModel, NulBytesAreBytes) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(std::string(1, char(byte)));
  const BpeModel model(tokens, {}, BpeAlphabet::bytes, false);
  BpeScratch scratch;
  std::vector<int32_t> ids;
  for (size_t n : {1, 2, 3}) model.encode_piece(std::string(n, '\0'), &scratch, &ids);
  EXPECT_EQ(ids, std::vector<int32_t>(6, 0));
}

TEST(BpeModel, LackingBytesAndDoubledTokensAreRefused) {
  using testing::error_of;
  EXPECT_NE(error_of(
                [] {
                  BpeModel({"a", "a"}, {}, BpeAlphabet::bytes, false);
                },
                ExitCode::bad_input)
                .find("same text"),
            std::string::npos);
  EXPECT_NE(
      error_of([] { BpeModel({"a"}, {}, BpeAlphabet::characters, false); }, ExitCode::bad_input)
          .find("<0x00>"),
      std::string::npos);
  const BpeModel model({"a"}, {}, BpeAlphabet::bytes, false);
  BpeScratch scratch;
  std::vector<int32_t> ids;
  EXPECT_NE(
      error_of([&] { model.encode_piece("ab", &scratch, &ids); }, ExitCode::bad_input).find("0x62"),
      std::string::npos);
}

}  // namespace
}  // namespace forja
