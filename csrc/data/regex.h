// SPDX-License-Identifier: Apache-2.0
// A compiled PCRE2 pattern (UTF-8, Unicode properties, JIT) and what a thread needs to match with
// it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace forja {

class Regex {
 public:
  // bad_input with PCRE2's message and position when the pattern does not compile.
  explicit Regex(const std::string& pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

 private:
  friend class RegexMatcher;
  pcre2_real_code_8* code_ = nullptr;
};

// One thread's matches of a Regex.
class RegexMatcher {
 public:
  explicit RegexMatcher(const Regex& regex);
  ~RegexMatcher();
  RegexMatcher(const RegexMatcher&) = delete;
  RegexMatcher& operator=(const RegexMatcher&) = delete;

  // The first match that is not empty at or after byte `from` of `text` (valid UTF-8); false when
  // there is none.
  bool find(std::string_view text, size_t from, size_t* begin, size_t* end);

 private:
  const Regex& regex_;
  pcre2_real_match_data_8* data_;
  pcre2_real_match_context_8* context_;
  pcre2_real_jit_stack_8* stack_;
};

}  // namespace forja
