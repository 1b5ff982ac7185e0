// SPDX-License-Identifier: Apache-2.0
// The merging of byte-pair encoding: a piece of text (a word) to token ids. Of all adjacent pairs
// that may merge, the one of the lowest rank merges first, the leftmost of equals; until none is
// left.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace forja {

// The token `result` replaces `left` followed by `right`.
struct BpeMerge {
  int32_t left, right;
  int32_t rank;
  int32_t result;
};

// What a piece is before any merge.
enum class BpeAlphabet {
  bytes,       // one token a byte
  characters,  // one token a character; a character without one becomes the tokens <0xXX> of its
               // bytes
};

// What one thread needs while encoding: a bounded cache of pieces already seen, and room to merge
// in.
class BpeScratch {
 public:
  BpeScratch();

 private:
  friend class BpeModel;
  static constexpr int kMaxBytes = 31, kMaxIds = 7, kSlots = 1 << 16;

  // One cache line, or two for long words.
  struct Slot {
    std::array<uint64_t, 4> key;  // the piece's bytes, zeros, and its length in the last byte
    int32_t ids[kMaxIds];
    int32_t count;
  };

  std::vector<Slot> slots_;
  std::vector<int32_t> symbols_, ranks_, results_, previous_, next_;
};

class BpeModel {
 public:
  // `tokens`: the text of every id of the model (empty: no such id). `ignore_merges`: a piece that
  // is a token is that token, whether or not merges reach it. Throws bad_input when a token occurs
  // twice, or the bytes lack tokens.
  BpeModel(const std::vector<std::string>& tokens, const std::vector<BpeMerge>& merges,
           BpeAlphabet alphabet, bool ignore_merges);

  // Appends the ids of one piece.
  void encode_piece(std::string_view piece, BpeScratch* scratch, std::vector<int32_t>* ids) const;

 private:
  struct PairSlot {
    uint64_t pair = kNoPair;  // left << 32 | right
    int32_t rank = 0, result = 0;
  };
  static constexpr uint64_t kNoPair = ~uint64_t(0);
  static constexpr int32_t kNoRank = INT32_MAX;

  void add_merge(const BpeMerge& merge);
  // The rank of a pair (kNoRank: they do not merge) and the token it becomes.
  int32_t find_pair(int32_t left, int32_t right, int32_t* result) const;
  void start_symbols(std::string_view piece, std::vector<int32_t>* symbols) const;
  void encode_new(std::string_view piece, BpeScratch* scratch, std::vector<int32_t>* ids) const;
  void merge_short(BpeScratch* scratch) const;
  void merge_long(BpeScratch* scratch) const;

  BpeAlphabet alphabet_;
  bool ignore_merges_;
  std::array<int32_t, 256> byte_ids_;  // -1: none
  std::unordered_map<std::string, int32_t> token_ids_;
  std::vector<PairSlot> pairs_;  // open addressing, a power of two
  int pair_shift_ = 0;
};

}  // namespace forja
