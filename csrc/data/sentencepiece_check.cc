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

#include "csrc/data/protobuf_fields.h"
#include "forja/base/error.h"

namespace forja {
namespace {

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
  for (ProtobufFields fields(model); fields.next(&number, &bytes);) {
    if (number != kNormalizer && number != kDenormalizer) continue;
    for (ProtobufFields inner(bytes); inner.next(&number, &bytes);)
      if (number == kMap) check_map(bytes);
  }
}

}  // namespace forja
