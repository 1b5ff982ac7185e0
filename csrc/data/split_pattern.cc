// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/split_pattern.h"

#include <cstdint>

#include "csrc/data/regex.h"

namespace forja {

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

const char* const kQwen2Pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                                  R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Unicode's White_Space, spelt out: PCRE2's \s also has U+180E.
const char* const kWhiteSpace =
    R"(\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

bool is_white_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// The pattern with \s and \S (the latter outside brackets) spelt out.
std::string with_unicode_white_space(const std::string& pattern) {
  std::string out;
  bool in_brackets = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's') {
        out += in_brackets ? std::string(kWhiteSpace) : "[" + std::string(kWhiteSpace) + "]";
      } else if (next == 'S' && !in_brackets) {
        out += "[^" + std::string(kWhiteSpace) + "]";
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (c == '[') in_brackets = true;
    if (c == ']') in_brackets = false;
    out += c;
  }
  return out;
}

class RegexSplitter : public Splitter {
 public:
  explicit RegexSplitter(const std::string& pattern) : regex_(with_unicode_white_space(pattern)) {}

  void split(std::string_view text, size_t begin, std::vector<size_t>* ends) const override {
    ends->clear();
    RegexMatcher matcher(regex_);
    while (begin < text.size() && ends->size() < kSplitBatch) {
      size_t first = 0, last = 0;
      if (!matcher.find(text, begin, &first, &last)) first = last = text.size();
      if (first > begin) ends->push_back(first);
      if (last > first) ends->push_back(last);
      begin = last;
    }
  }

 private:
  Regex regex_;
};

enum CharacterClass : uint8_t { kOther, kLetter, kNumber, kSpace };

// The class of every code point, by PCRE2's own Unicode tables, so that both ways of splitting
// agree.
std::vector<uint8_t> make_character_classes() {
  std::vector<uint8_t> classes(0x110000, kOther);
  std::string all;
  std::vector<uint32_t>
      code_points;  // of each byte offset divided by 4: four bytes a code point, padded by NULs
  const auto append = [&](uint32_t c) {
    const size_t start = all.size();
    if (c < 0x80) {
      all += char(c);
    } else if (c < 0x800) {
      all += {char(0xC0 | c >> 6), char(0x80 | (c & 0x3F))};
    } else if (c < 0x10000) {
      all += {char(0xE0 | c >> 12), char(0x80 | (c >> 6 & 0x3F)), char(0x80 | (c & 0x3F))};
    } else {
      all += {char(0xF0 | c >> 18), char(0x80 | (c >> 12 & 0x3F)), char(0x80 | (c >> 6 & 0x3F)),
              char(0x80 | (c & 0x3F))};
    }
    all.resize(start + 4, '\0');
    code_points.push_back(c);
  };
  for (uint32_t c = 1; c < 0x110000; ++c) {
    if (c < 0xD800 || c > 0xDFFF) append(c);
  }
  const auto mark = [&](const char* pattern, CharacterClass value) {
    const Regex regex(pattern);
    RegexMatcher matcher(regex);
    size_t first = 0, last = 0;
    for (size_t at = 0; at < all.size() && matcher.find(all, at, &first, &last); at = last) {
      for (size_t i = first / 4; i < (last + 3) / 4; ++i) classes[code_points[i]] = value;
    }
  };
  mark(R"((?:\p{L}\x00*)+)", kLetter);
  mark(R"((?:\p{N}\x00*)+)", kNumber);
  for (uint32_t c = 0; c <= 0x3000; ++c) {
    if (is_white_space(c)) classes[c] = kSpace;
  }
  return classes;
}

const uint8_t* character_classes() {
  static const std::vector<uint8_t> classes = make_character_classes();
  return classes.data();
}

// A walk over valid UTF-8.
struct Cursor {
  const uint8_t* at;
  const uint8_t* end;
  const uint8_t* classes;

  // The class of the character at `p` < end, and its length in bytes.
  CharacterClass look(const uint8_t* p, int* length) const {
    const uint32_t b = *p;
    uint32_t c = b;
    if (b < 0x80) {
      *length = 1;
    } else if (b < 0xE0) {
      *length = 2;
      c = (b & 0x1F) << 6 | (p[1] & 0x3Fu);
    } else if (b < 0xF0) {
      *length = 3;
      c = (b & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    } else {
      *length = 4;
      c = (b & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
    }
    return CharacterClass(classes[c]);
  }

  // The end of the run of characters of `wanted` from `p`.
  const uint8_t* run(const uint8_t* p, CharacterClass wanted) const {
    int length;
    while (p < end && look(p, &length) == wanted) p += length;
    return p;
  }

  // The end of a white-space piece by \s+(?!\S)|\s+ from `at`, whose run of white space ends at
  // `stop`: all of it at the end of the text, else all but the last character, which belongs to the
  // next word, where there are several.
  const uint8_t* white_space(const uint8_t* stop) const {
    if (stop == end) return stop;
    const uint8_t* last = stop - 1;
    while ((*last & 0xC0) == 0x80) --last;
    return last > at ? last : stop;
  }
};

// The length of 's 't 're 've 'm 'll 'd at `p` (which holds the apostrophe), 0 for none.
template <bool kIgnoreCase>
int contraction(const uint8_t* p, const uint8_t* end) {
  const auto lower = [](uint8_t c) {
    return kIgnoreCase && c >= 'A' && c <= 'Z' ? uint8_t(c | 0x20) : c;
  };
  if (end - p < 2) return 0;
  const uint8_t a = lower(p[1]);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if (end - p < 3) return 0;
  if (kIgnoreCase && p[1] == 0xC5 && p[2] == 0xBF)
    return 3;  // U+017F, the long s, is an s when case is ignored
  const uint8_t b = lower(p[2]);
  return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

struct Gpt2Rule {
  static const uint8_t* next(const Cursor& c) {
    if (*c.at == '\'') {
      if (const int length = contraction<false>(c.at, c.end)) return c.at + length;
    }
    int length;
    const uint8_t* p = c.at + (*c.at == ' ' && c.at + 1 < c.end ? 1 : 0);
    CharacterClass kind = c.look(p, &length);
    if (kind != kSpace) return c.run(p + length, kind);
    return c.white_space(c.run(c.at, kSpace));
  }
};

template <int kMaxDigits>
struct Llama3Rule {
  static const uint8_t* next(const Cursor& c) {
    if (*c.at == '\'') {
      if (const int length = contraction<true>(c.at, c.end)) return c.at + length;
    }
    int length, next_length;
    const CharacterClass kind = c.look(c.at, &length);
    if (kind == kLetter) return c.run(c.at + length, kLetter);
    if (kind == kNumber) {
      const uint8_t* p = c.at + length;
      for (int i = 1; i < kMaxDigits && p < c.end && c.look(p, &length) == kNumber; ++i)
        p += length;
      return p;
    }
    const uint8_t* after = c.at + length;
    const bool line_end = *c.at == '\r' || *c.at == '\n';
    if (after < c.end && !line_end) {
      const CharacterClass following = c.look(after, &next_length);
      if (following == kLetter) return c.run(after + next_length, kLetter);
      if (following == kOther && *c.at == ' ') return punctuation(c, after);
    }
    if (kind == kOther) return punctuation(c, c.at);
    const uint8_t* stop = c.run(after, kSpace);
    for (const uint8_t* p = stop; p > c.at; --p) {
      if (p[-1] == '\n' || p[-1] == '\r') return p;
    }
    return c.white_space(stop);
  }

  static const uint8_t* punctuation(const Cursor& c, const uint8_t* p) {
    p = c.run(p, kOther);
    while (p < c.end && (*p == '\r' || *p == '\n')) ++p;
    return p;
  }
};

template <class Rule>
class RuleSplitter : public Splitter {
 public:
  RuleSplitter() : classes_(character_classes()) {}

  void split(std::string_view text, size_t begin, std::vector<size_t>* ends) const override {
    const auto* start = reinterpret_cast<const uint8_t*>(text.data());
    Cursor cursor{start + begin, start + text.size(), classes_};
    ends->resize(kSplitBatch);
    size_t count = 0;
    while (cursor.at < cursor.end && count < kSplitBatch) {
      cursor.at = Rule::next(cursor);
      (*ends)[count++] = size_t(cursor.at - start);
    }
    ends->resize(count);
  }

 private:
  const uint8_t* classes_;
};

}  // namespace

std::unique_ptr<Splitter> make_regex_splitter(const std::string& pattern) {
  return std::make_unique<RegexSplitter>(pattern);
}

std::string split_pattern_name(const std::string& pattern) {
  if (pattern == kGpt2Pattern) return "gpt-2";
  if (pattern == kLlama3Pattern) return "llama-3";
  if (pattern == kQwen2Pattern) return "qwen-2";
  return "";
}

std::unique_ptr<Splitter> make_splitter(const std::string& pattern) {
  if (pattern == kGpt2Pattern) return std::make_unique<RuleSplitter<Gpt2Rule>>();
  if (pattern == kLlama3Pattern) return std::make_unique<RuleSplitter<Llama3Rule<3>>>();
  if (pattern == kQwen2Pattern) return std::make_unique<RuleSplitter<Llama3Rule<1>>>();
  return make_regex_splitter(pattern);
}

}  // namespace forja
