// SPDX-License-Identifier: Apache-2.0
// The elements of a JSON array, one after the other, as text.
#pragma once

#include <cstdint>
#include <string>

namespace forja {

class JsonElements {
 public:
  // `file` names it in messages. Throws bad_input where `text` does not begin an array.
  JsonElements(std::string text, std::string file);

  // The text of the next element, which need not be JSON, and the line where it begins, from 1;
  // false at the end. Throws bad_input where the array is not closed, or text follows it.
  bool next(std::string* element, int64_t* line);
  // Where the element that next() has just given begins, in bytes.
  int64_t offset() const { return int64_t(begin_); }

 private:
  void skip_space();
  void skip_element();
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  [[noreturn]] void fault(const char* expected) const;

  const std::string text_, file_;
  size_t at_ = 0, begin_ = 0;
  int64_t line_ = 1;
  bool first_ = true;
};

}  // namespace forja
