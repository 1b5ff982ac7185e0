// SPDX-License-Identifier: Apache-2.0
// A tokenizer of the BPE family, described by data: the loaders of tokenizer.json and of tiktoken
// files fill a BpeSpec.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "csrc/data/added_tokens.h"
#include "csrc/data/bpe_model.h"
#include "forja/data/tokenizer.h"

namespace forja {

// Where a prefix ("▁") is put in front of a text.
enum class PrefixPlace { nowhere, first_part, every_part };

struct BpeSpec {
  std::string kind;
  std::vector<std::string>
      tokens;  // of the model, by id, as pieces contain them (bytes, or characters with "▁")
  std::vector<BpeMerge> merges;
  BpeAlphabet alphabet = BpeAlphabet::bytes;
  bool ignore_merges = false;
  std::vector<AddedToken> added;

  // In this order: normalisation of what is between added tokens, then cutting into pieces.
  bool nfc = false;
  std::string prefix;  // "▁" or " "
  PrefixPlace prefix_place = PrefixPlace::nowhere;
  bool prefix_only_if_missing = false;
  bool spaces_to_marks = false;  // " " becomes "▁"
  bool split_at_marks = false;   // every "▁" begins a piece
  std::vector<std::string> split_patterns;

  bool strips_first_space = false;  // decoding drops one space at the start of a text
  bool adds_bos = false;
  std::optional<int32_t> bos_id, eos_id;
};

// bad_input where the spec contradicts itself (a token twice, a pattern that does not compile).
std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeSpec spec, uint64_t hash);

// The loaders: `text` is the file's content, `path` names it in messages.
BpeSpec read_tokenizer_json(std::string_view text, const std::string& path,
                            const std::string& config_text);
BpeSpec read_tiktoken(std::string_view text, const std::string& path);
// True when the content has lines of "base64 rank".
bool looks_like_tiktoken(std::string_view text);

// A SentencePiece model (a serialised protocol buffer).
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view model,
                                                        const std::string& path, uint64_t hash);

// GPT-2's reversible spelling of bytes by printable characters: the character of a byte, in UTF-8.
const std::string& byte_level_character(uint8_t byte);
// The bytes that such a text spells; false when it has another character.
bool byte_level_bytes(std::string_view text, std::string* bytes);

// The first of `names` that an added token has.
std::optional<int32_t> find_first(const std::vector<AddedToken>& added,
                                  const std::vector<std::string>& names);
extern const std::vector<std::string> kUsualEosNames, kUsualBosNames;

}  // namespace forja
