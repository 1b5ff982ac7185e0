// SPDX-License-Identifier: Apache-2.0
// A tokenizer's file as plain tables: for writing it in another program's format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace forja {

enum class TokenKind {
  absent,        // no token has this id
  normal,        // of the model
  unknown,       // stands for what has no token
  control,       // never comes from plain text
  user_defined,  // found in the text before the model sees it
  unused,
  byte,  // "<0x0A>"
};

struct TokenizerTables {
  // byte_level: bytes spelt as printable characters, merges by rank (GPT-2, Llama 3, Qwen).
  // sentencepiece: characters, spaces as "▁", the pair whose token has the highest score merges
  // first (Llama 2, Mistral).
  enum class Model { byte_level, sentencepiece };
  Model model = Model::byte_level;

  std::vector<std::string> tokens;  // by id, spelt as in tokenizer.json
  std::vector<TokenKind> kinds;     // by id
  std::vector<float> scores;        // sentencepiece, by id
  std::vector<std::string> merges;  // byte_level, "left right" in the order of rank
  std::string
      split;  // byte_level: whose split pattern, "gpt-2", "llama-3" or "qwen-2"; "": none of them
  std::string split_pattern;   // ... and what it is, for people
  bool ignore_merges = false;  // byte_level: a piece that is a token is that token
  bool adds_prefix = false;    // a space in front of a text
  bool normalizes = false;     // sentencepiece: texts are changed in other ways than that first
};

// Reads the file that load_tokenizer(path) would. Throws bad_input as it does, and for a tokenizer
// that the tables cannot describe (a unigram model, merges that no scores reproduce).
TokenizerTables read_tokenizer_tables(const std::string& path);

}  // namespace forja
