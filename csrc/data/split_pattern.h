// SPDX-License-Identifier: Apache-2.0
// Cuts text into the pieces that BPE then merges within (GPT-2 and its successors: words with their
// leading space, numbers, punctuation, white space). The pattern is a regular expression of the
// tokenizer's file.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace forja {

// Immutable, thread-safe.
class Splitter {
 public:
  virtual ~Splitter() = default;

  // Cuts `text` (UTF-8) from byte `begin`, an earlier piece's end, and puts the ends of the next
  // pieces, in order, into `ends` (overwritten): at least one when begin < text.size(), a bounded
  // number at once. Every byte is in a piece; what no match covers is a piece of its own.
  virtual void split(std::string_view text, size_t begin, std::vector<size_t>* ends) const = 0;
};

inline constexpr size_t kSplitBatch = 4096;  // pieces of one call

// Patterns that files do not always spell out.
extern const char* const kGpt2Pattern;
extern const char* const kLlama3Pattern;

// Whose pattern it is: "gpt-2", "llama-3", "qwen-2"; "" for any other.
std::string split_pattern_name(const std::string& pattern);

// Through PCRE2's JIT, whatever the pattern; bad_input when it does not compile. \s is Unicode's
// White_Space, as in the libraries that such patterns were written for.
std::unique_ptr<Splitter> make_regex_splitter(const std::string& pattern);

// The same pieces, by code written for the patterns of GPT-2, Llama 3 and Qwen 2; through PCRE2 for
// any other.
std::unique_ptr<Splitter> make_splitter(const std::string& pattern);

}  // namespace forja
