// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "forja/base/error.h"

namespace forja {
namespace {

std::string message_of(int error) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

Regex::Regex(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  // \C would match a part of a character, and what comes after it is then no UTF-8.
  code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                        PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (!code_) {
    fail_input("the pattern \"{}\" is not a regular expression PCRE2 reads: {} at offset {}",
               pattern, message_of(error), offset);
  }
  pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);  // where there is no JIT, PCRE2 interprets
}

Regex::~Regex() { pcre2_code_free(code_); }

RegexMatcher::RegexMatcher(const Regex& regex)
    : regex_(regex),
      data_(pcre2_match_data_create_from_pattern(regex.code_, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      stack_(pcre2_jit_stack_create(64 << 10, 8 << 20, nullptr)) {
  FORJA_CHECK(data_ && context_ && stack_, "PCRE2 has no memory left");
  pcre2_jit_stack_assign(context_, nullptr, stack_);
}

RegexMatcher::~RegexMatcher() {
  pcre2_jit_stack_free(stack_);
  pcre2_match_context_free(context_);
  pcre2_match_data_free(data_);
}

bool RegexMatcher::find(std::string_view text, size_t from, size_t* begin, size_t* end) {
  const int result =
      pcre2_match(regex_.code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                  PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data_, context_);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) fail("matching a split pattern at byte {}: {}", from, message_of(result));
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data_);
  *begin = found[0];
  *end = found[1];
  return true;
}

}  // namespace forja
