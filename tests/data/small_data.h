// SPDX-License-Identifier: Apache-2.0
// What the tests of the data layer share: a small tokenizer, random text.
#pragma once

#include <random>
#include <string>

#include "forja/base/file.h"
#include "forja/data/bpe_trainer.h"

namespace forja::testing {

// A tokenizer.json of at most `vocab_size` ids, trained on a few lines.
inline std::string small_tokenizer_json(int64_t vocab_size = 400) {
  BpeTrainer trainer({vocab_size});
  for (int i = 0; i < 50; ++i) {
    trainer.add("the quick brown fox jumps over the lazy dog, and the fox's friends don't mind.\n");
    trainer.add(
        "el veloz murci\xC3\xA9lago hind\xC3\xBA com\xC3\xAD"
        "a feliz cardillo y kiwi; 1234 5678\n\n");
  }
  return trainer.train({});
}

inline std::string write_small_tokenizer(const std::string& path, int64_t vocab_size = 400) {
  write_file(path, small_tokenizer_json(vocab_size));
  return path;
}

inline void append_utf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    *out += char(c);
  } else if (c < 0x800) {
    *out += {char(0xC0 | c >> 6), char(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    *out += {char(0xE0 | c >> 12), char(0x80 | (c >> 6 & 0x3F)), char(0x80 | (c & 0x3F))};
  } else {
    *out += {char(0xF0 | c >> 18), char(0x80 | (c >> 12 & 0x3F)), char(0x80 | (c >> 6 & 0x3F)),
             char(0x80 | (c & 0x3F))};
  }
}

// Valid UTF-8 of `length` characters: mostly what split patterns care about, now and then any
// character at all.
inline std::string random_text(std::mt19937& random, int length) {
  static const std::u32string usual =
      U"aeistlrdvmSTLDVMREZ'''      "
      U"\t\n\n\r.,;!?-_\"()<>|0123456789\u00e9\u00f1\u017f\u00a0\u2009\u3000\u2028\u0085"
      U"\u00bd\u0661\u4e2d\u0301\u30ab\u3099\u1e9b\U0001f999\U0001f600\u200d\u180e\u2581";
  std::string text;
  for (int i = 0; i < length; ++i) {
    uint32_t c = usual[random() % usual.size()];
    if (random() % 8 == 0) c = random() % 0x110000;
    if (c >= 0xD800 && c < 0xE000) c = 'x';
    append_utf8(c, &text);
  }
  return text;
}

}  // namespace forja::testing
