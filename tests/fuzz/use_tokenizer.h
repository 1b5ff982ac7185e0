// SPDX-License-Identifier: Apache-2.0
// What is done with a tokenizer whose file was accepted.
#pragma once

#include <string>
#include <vector>

#include "forja/data/tokenizer.h"
#include "tests/fuzz/fuzzing.h"

namespace forja::fuzzing {

// Ids that texts become are of the vocabulary, and every one has a text.
inline void use_tokenizer(const Tokenizer& tokenizer) {
  const auto in_vocabulary = [&](int32_t id) { return id >= 0 && id < tokenizer.vocab_size(); };
  require(!tokenizer.bos_id() || in_vocabulary(*tokenizer.bos_id()), "the first token has an id");
  require(!tokenizer.eos_id() || in_vocabulary(*tokenizer.eos_id()), "the last token has an id");
  for (const SpecialText special : {SpecialText::plain, SpecialText::parsed}) {
    accepts([&] {
      const std::vector<int32_t> ids = tokenizer.encode(
          "The fox's 12345 \xC3\xB1\xE2\x96\x81\xF0\x9F\xA6\x99  \n<s> <|endoftext|>e\xCC\x81 "
          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          {.special = special, .add_bos = tokenizer.adds_bos()});
      for (const int32_t id : ids)
        require(in_vocabulary(id), "ids of a text are in the vocabulary");
      tokenizer.decode(ids);
    });
  }
  for (int32_t id = 0; id < int32_t(std::min<int64_t>(tokenizer.vocab_size(), 1000)); ++id) {
    tokenizer.token_text(id);
    tokenizer.is_special(id);
  }
  tokenizer.find_special("<s>");
}

}  // namespace forja::fuzzing
