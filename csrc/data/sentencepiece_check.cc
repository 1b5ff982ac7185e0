// SPDX-License-Identifier: Apache-2.0
// A model may hold precompiled maps that normalise texts: a size, a trie of so many bytes as a
// double array (Darts-clone by S. Yata; Aoe, "An Efficient Digital Search Algorithm by Using a
// Double-Array Structure", 1989), and the texts that its leaves point to, each ended by a NUL. The
// library walks through them by the bytes of a text and checks no position.
#include "csrc/data/sentencepiece_check.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "forja/base/error.h"

namespace forja {
namespace {

// Fields of a serialised protocol buffer, as far as their kinds are known to it.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : rest_(bytes) {}

  // The next field; false at the end. `bytes` is empty for one that is a number.
  bool next(uint32_t* number, std::string_view* bytes) {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    *number = uint32_t(tag >> 3);
    *bytes = {};
    switch (tag > UINT32_MAX ? 7 : tag & 7) {
      case 0:
        varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        *bytes = take(varint());
        break;
      case 5:
        take(4);
        break;
      default:
        fail_input("a field of kind {} is in it", tag & 7);
    }
    return true;
  }

 private:
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) fail_input("it ends within a field");
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = uint8_t(take(1)[0]);
      value |= uint64_t(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail_input("a number in it has no end");
  }

  std::string_view rest_;
};

// Every node of a trie, and what it points to, is there.
class TrieCheck {
 public:
  TrieCheck(std::string_view trie, std::string_view texts)
      : units_(trie.size() / 4), leaves_below_(units_.size(), kNew), texts_(texts) {
    if (!units_.empty()) std::memcpy(units_.data(), trie.data(), units_.size() * 4);
  }

  void run() {
    if (units_.empty() || texts_.empty() || texts_.back() != '\0') damaged();
    if (visit(0, 0) > kMostPrefixes) damaged();
  }

 private:
  static constexpr int kNew = -1, kOpen = -2;
  static constexpr int kMostPrefixes = 32;  // of a text: the library has room for so many
  static constexpr int kMostDepth = 256;    // bytes of the longest text that is replaced

  [[noreturn]] static void damaged() { fail_input("its normalisation map is damaged"); }

  // The most leaves on a way down from a node, itself counted.
  int visit(size_t node, int depth) {
    if (leaves_below_[node] >= 0) return leaves_below_[node];
    if (leaves_below_[node] == kOpen || depth > kMostDepth) damaged();
    leaves_below_[node] = kOpen;
    const uint32_t unit = units_[node];
    const size_t children = node ^ size_t(unit >> 10) << ((unit & 1u << 9) >> 6);
    if ((children | 0xFF) >= units_.size()) damaged();
    const bool is_leaf = depth > 0 && (unit >> 8 & 1);
    if (is_leaf && (units_[children] & 0x7FFFFFFF) >= texts_.size()) damaged();
    int most = 0;
    for (size_t byte = 0; byte < 256; ++byte) {
      if ((units_[children ^ byte] & 0x800000FF) == byte)
        most = std::max(most, visit(children ^ byte, depth + 1));
    }
    return leaves_below_[node] = most + is_leaf;
  }

  std::vector<uint32_t> units_;
  std::vector<int> leaves_below_;
  std::string_view texts_;
};

void check_map(std::string_view map) {
  if (map.empty()) return;
  uint32_t trie_bytes = 0;
  if (map.size() >= 4) std::memcpy(&trie_bytes, map.data(), 4);
  if (map.size() < 4 || trie_bytes > map.size() - 4)
    fail_input("its normalisation map is truncated");
  TrieCheck(map.substr(4, trie_bytes), map.substr(4 + trie_bytes)).run();
}

}  // namespace

void check_sentencepiece_model(std::string_view model) {
  constexpr uint32_t kNormalizer = 3, kDenormalizer = 5, kMap = 2;
  uint32_t number = 0;
  std::string_view bytes;
  for (Fields fields(model); fields.next(&number, &bytes);) {
    if (number != kNormalizer && number != kDenormalizer) continue;
    for (Fields inner(bytes); inner.next(&number, &bytes);)
      if (number == kMap) check_map(bytes);
  }
}

}  // namespace forja
