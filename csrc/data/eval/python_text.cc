// SPDX-License-Identifier: Apache-2.0
#include "forja/data/python_text.h"

#include <algorithm>

namespace forja {
namespace {

bool continues(char byte) { return (uint8_t(byte) & 0xC0) == 0x80; }

// The bytes of the white space that `text` begins with, 0 where it begins with another character.
// Source: the characters of which str.isspace() is true.
size_t space_at(std::string_view text) {
  if (text.empty()) return 0;
  const uint8_t first = uint8_t(text[0]);
  if (first < 0x80)
    return (first >= 0x09 && first <= 0x0D) || (first >= 0x1C && first <= 0x20) ? 1 : 0;
  const auto begins = [&](std::string_view s) { return text.substr(0, s.size()) == s; };
  if (begins("\xC2\x85") || begins("\xC2\xA0")) return 2;
  if (begins("\xE1\x9A\x80") || begins("\xE2\x81\x9F") || begins("\xE3\x80\x80")) return 3;
  if (!begins("\xE2\x80") || text.size() < 3) return 0;
  const uint8_t last = uint8_t(text[2]);  // U+2000 to U+200A, U+2028, U+2029, U+202F
  return last <= 0x8A || last == 0xA8 || last == 0xA9 || last == 0xAF ? 3 : 0;
}

}  // namespace

int64_t num_characters(std::string_view text) {
  return int64_t(text.size()) - std::count_if(text.begin(), text.end(), continues);
}

std::string_view rstrip(std::string_view text) {
  while (!text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && continues(text[begin])) --begin;
    if (space_at(text.substr(begin)) == 0) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

std::string_view strip(std::string_view text) {
  while (const size_t space = space_at(text)) text.remove_prefix(space);
  return rstrip(text);
}

int64_t num_words(std::string_view text) {
  int64_t words = 1;
  bool in_space = false;
  while (!text.empty()) {
    const size_t space = space_at(text);
    if (space > 0 && !in_space) ++words;
    in_space = space > 0;
    text.remove_prefix(std::max<size_t>(space, 1));
  }
  return words;
}

}  // namespace forja
