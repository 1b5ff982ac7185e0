// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/bpe_model.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <queue>

#include "forja/base/error.h"

namespace forja {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;
// Up to here a scan of all pairs for the lowest rank beats a heap.
constexpr size_t kShortPiece = 64;

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t(uint32_t(left)) << 32 | uint32_t(right);
}

int utf8_length(uint8_t first) {
  return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

}  // namespace

BpeScratch::BpeScratch() : slots_(kSlots) {}  // a key of zeros has length 0: no piece has it

BpeModel::BpeModel(const std::vector<std::string>& tokens, const std::vector<BpeMerge>& merges,
                   BpeAlphabet alphabet, bool ignore_merges)
    : alphabet_(alphabet), ignore_merges_(ignore_merges) {
  byte_ids_.fill(-1);
  token_ids_.reserve(tokens.size() * 2);
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string& token = tokens[id];
    if (token.empty()) continue;
    const auto [at, is_new] = token_ids_.emplace(token, int32_t(id));
    if (!is_new) fail_input("tokens {} and {} have the same text", at->second, id);
    if (alphabet == BpeAlphabet::bytes && token.size() == 1)
      byte_ids_[uint8_t(token[0])] = int32_t(id);
  }
  if (alphabet == BpeAlphabet::characters) {
    for (int byte = 0; byte < 256; ++byte) {
      const auto at = token_ids_.find(fmt::format("<0x{:02X}>", byte));
      if (at == token_ids_.end())
        fail_input("the vocabulary lacks the byte token <0x{:02X}>", byte);
      byte_ids_[byte] = at->second;
    }
  }
  const size_t slots = std::bit_ceil(merges.size() * 2 + 2);
  pairs_.resize(slots);
  pair_shift_ = 64 - std::countr_zero(slots);
  for (const BpeMerge& merge : merges) add_merge(merge);
}

void BpeModel::add_merge(const BpeMerge& merge) {
  const uint64_t pair = pair_of(merge.left, merge.right);
  size_t slot = pair * kGolden >> pair_shift_;
  while (pairs_[slot].pair != kNoPair && pairs_[slot].pair != pair)
    slot = (slot + 1) & (pairs_.size() - 1);
  pairs_[slot] = {pair, merge.rank, merge.result};
}

inline int32_t BpeModel::find_pair(int32_t left, int32_t right, int32_t* result) const {
  const uint64_t pair = pair_of(left, right);
  size_t slot = pair * kGolden >> pair_shift_;
  while (true) {
    const PairSlot& s = pairs_[slot];
    if (s.pair == pair) {
      *result = s.result;
      return s.rank;
    }
    if (s.pair == kNoPair) return kNoRank;
    slot = (slot + 1) & (pairs_.size() - 1);
  }
}

void BpeModel::encode_piece(std::string_view piece, BpeScratch* scratch,
                            std::vector<int32_t>* ids) const {
  if (piece.size() > BpeScratch::kMaxBytes) return encode_new(piece, scratch, ids);
  std::array<uint64_t, 4> key{};
  std::memcpy(key.data(), piece.data(), piece.size());
  key[3] |= uint64_t(piece.size()) << 56;
  const uint64_t a = (key[0] ^ kGolden) * (key[1] + 0xD1B54A32D192ED03ull);
  const uint64_t b = (key[2] + 0x8CB92BA72F3D8DD7ull) * (key[3] ^ 0xABC98388FB8FAC03ull);
  const uint64_t hash = ((a ^ a >> 32) + (b ^ b >> 29) + (key[0] >> 7)) * kGolden;
  BpeScratch::Slot& slot = scratch->slots_[hash >> 48];
  if (slot.key != key) {
    const size_t before = ids->size();
    encode_new(piece, scratch, ids);
    const size_t count = ids->size() - before;
    if (count > BpeScratch::kMaxIds) return;
    slot.key = key;
    slot.count = int32_t(count);
    std::copy(ids->begin() + ptrdiff_t(before), ids->end(), slot.ids);
    return;
  }
  for (int32_t i = 0; i < slot.count; ++i) ids->push_back(slot.ids[i]);
}

void BpeModel::start_symbols(std::string_view piece, std::vector<int32_t>* symbols) const {
  symbols->clear();
  const auto push_byte = [&](char byte) {
    const int32_t id = byte_ids_[uint8_t(byte)];
    if (id < 0) fail_input("the tokenizer's vocabulary lacks the byte 0x{:02x}", uint8_t(byte));
    symbols->push_back(id);
  };
  if (alphabet_ == BpeAlphabet::bytes) {
    for (char byte : piece) push_byte(byte);
    return;
  }
  for (size_t i = 0; i < piece.size();) {
    const std::string character(piece.substr(i, size_t(utf8_length(uint8_t(piece[i])))));
    const auto at = token_ids_.find(character);
    if (at != token_ids_.end()) {
      symbols->push_back(at->second);
    } else {
      for (char byte : character) push_byte(byte);
    }
    i += character.size();
  }
}

void BpeModel::encode_new(std::string_view piece, BpeScratch* scratch,
                          std::vector<int32_t>* ids) const {
  if (ignore_merges_) {
    const auto at = token_ids_.find(std::string(piece));
    if (at != token_ids_.end()) return ids->push_back(at->second);
  }
  start_symbols(piece, &scratch->symbols_);
  if (scratch->symbols_.size() <= kShortPiece) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
  ids->insert(ids->end(), scratch->symbols_.begin(), scratch->symbols_.end());
}

// ranks[i] and results[i] are those of the pair (i, i + 1).
void BpeModel::merge_short(BpeScratch* scratch) const {
  std::vector<int32_t>& symbols = scratch->symbols_;
  size_t n = symbols.size();
  int32_t ranks[kShortPiece], results[kShortPiece];
  for (size_t i = 0; i + 1 < n; ++i) ranks[i] = find_pair(symbols[i], symbols[i + 1], &results[i]);
  while (n > 1) {
    const size_t best = size_t(std::min_element(ranks, ranks + n - 1) - ranks);
    if (ranks[best] == kNoRank) break;
    symbols[best] = results[best];
    std::copy(symbols.begin() + ptrdiff_t(best) + 2, symbols.begin() + ptrdiff_t(n),
              symbols.begin() + ptrdiff_t(best) + 1);
    if (best + 2 < n) {
      std::copy(ranks + best + 2, ranks + n - 1, ranks + best + 1);
      std::copy(results + best + 2, results + n - 1, results + best + 1);
    }
    --n;
    if (best + 1 < n) ranks[best] = find_pair(symbols[best], symbols[best + 1], &results[best]);
    if (best > 0) ranks[best - 1] = find_pair(symbols[best - 1], symbols[best], &results[best - 1]);
  }
  symbols.resize(n);
}

// A linked list of symbols and a heap of candidate pairs; a candidate whose pair has changed since
// is skipped.
void BpeModel::merge_long(BpeScratch* scratch) const {
  std::vector<int32_t>& symbols = scratch->symbols_;
  std::vector<int32_t>& ranks = scratch->ranks_;
  std::vector<int32_t>& results = scratch->results_;
  std::vector<int32_t>& previous = scratch->previous_;
  std::vector<int32_t>& next = scratch->next_;
  const size_t count = symbols.size();
  if (count > size_t(INT32_MAX)) fail_input("a word of {} bytes is too long to tokenize", count);
  const int32_t n = int32_t(count);
  ranks.assign(count, kNoRank);
  results.assign(count, 0);
  previous.resize(count);
  next.resize(count);
  std::vector<uint64_t> storage;
  storage.reserve(count);
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap({}, std::move(storage));
  const auto consider = [&](int32_t i) {
    ranks[i] = next[i] < n ? find_pair(symbols[i], symbols[next[i]], &results[i]) : kNoRank;
    if (ranks[i] != kNoRank) heap.push(uint64_t(ranks[i]) << 32 | uint32_t(i));
  };
  for (int32_t i = 0; i < n; ++i) {
    previous[i] = i - 1;
    next[i] = i + 1;
  }
  for (int32_t i = 0; i < n; ++i) consider(i);
  while (!heap.empty()) {
    const int32_t i = int32_t(heap.top() & 0xFFFFFFFFu);
    const int32_t rank = int32_t(heap.top() >> 32);
    heap.pop();
    if (ranks[i] != rank) continue;
    const int32_t gone = next[i];
    symbols[i] = results[i];
    ranks[gone] = kNoRank;
    next[i] = next[gone];
    if (next[i] < n) previous[next[i]] = i;
    consider(i);
    if (previous[i] >= 0) consider(previous[i]);
  }
  size_t kept = 0;
  for (int32_t i = 0; i < n; i = next[i]) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

}  // namespace forja
