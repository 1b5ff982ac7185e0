// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <unordered_map>

#include "csrc/data/bpe_tokenizer.h"

namespace forja {
namespace {

// Printable Latin-1 characters stand for themselves, the other bytes for 256, 257, ... in order
// (all below 0x800).
std::array<std::string, 256> make_characters() {
  std::array<std::string, 256> characters;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const uint32_t c = printable ? byte : next++;
    if (c < 0x80) {
      characters[byte] = std::string(1, char(c));
    } else {
      characters[byte] = {char(0xC0 | c >> 6), char(0x80 | (c & 0x3F))};
    }
  }
  return characters;
}

const std::array<std::string, 256>& characters() {
  static const std::array<std::string, 256> table = make_characters();
  return table;
}

// From the character's code point (below 512) to the byte, -1 for none.
const std::array<int16_t, 512>& bytes_of_characters() {
  static const std::array<int16_t, 512> table = [] {
    std::array<int16_t, 512> bytes;
    bytes.fill(-1);
    for (int byte = 0; byte < 256; ++byte) {
      const std::string& s = characters()[size_t(byte)];
      const int c = s.size() == 1 ? s[0] : (s[0] & 0x1F) << 6 | (s[1] & 0x3F);
      bytes[size_t(c)] = int16_t(byte);
    }
    return bytes;
  }();
  return table;
}

}  // namespace

const std::string& byte_level_character(uint8_t byte) { return characters()[byte]; }

bool byte_level_bytes(std::string_view text, std::string* bytes) {
  bytes->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    uint32_t c = uint8_t(text[i]);
    if (c >= 0x80) {
      if (c < 0xC2 || c >= 0xE0 || ++i == text.size()) return false;
      c = (c & 0x1F) << 6 | (uint8_t(text[i]) & 0x3F);
    }
    if (c >= 512 || bytes_of_characters()[c] < 0) return false;
    bytes->push_back(char(bytes_of_characters()[c]));
  }
  return true;
}

}  // namespace forja
