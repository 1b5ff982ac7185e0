// SPDX-License-Identifier: Apache-2.0
// Tokens that were added to a vocabulary by their text, such as <|endoftext|>: they are found in
// the text before it is split into words.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "forja/data/tokenizer.h"

namespace forja {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // kept as plain text under SpecialText::plain
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool single_word = false;  // only where no letter, digit or underscore touches it
  bool normalized = false;   // looked for in the normalised text
};

class AddedTokenFinder {
 public:
  void add(const AddedToken& token);
  bool empty() const { return tokens_.empty(); }

  // Cuts `text` at the added tokens in it, the leftmost first, the longest of those: calls
  // text_part(part) for what is between them, never empty, and token(id, end) for each, in order;
  // `end` is where it ends in `text`, with the white space that it takes along.
  void split(std::string_view text, SpecialText special,
             const std::function<void(std::string_view)>& text_part,
             const std::function<void(int32_t, size_t)>& token) const;

 private:
  const AddedToken* find_at(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string_view, size_t> by_content_;  // views of owned_
  std::vector<std::unique_ptr<std::string>> owned_;
  std::vector<size_t> lengths_;  // of all contents, distinct, longest first
  std::array<bool, 256> first_bytes_{};
  bool all_special_ = true;
};

}  // namespace forja
