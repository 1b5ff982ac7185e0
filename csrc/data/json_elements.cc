// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/json_elements.h"

#include <utility>

#include "forja/base/error.h"

namespace forja {

JsonElements::JsonElements(std::string text, std::string file)
    : text_(std::move(text)), file_(std::move(file)) {
  skip_space();
  if (peek() != '[') fault("an array, [...] (a file with an object on each line is a .jsonl)");
  ++at_;
}

void JsonElements::skip_space() {
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c != ' ' && c != '\t' && c != '\r' && c != '\n') return;
    line_ += c == '\n';
  }
}

// To the comma or bracket after it.
void JsonElements::skip_element() {
  bool in_string = false;
  for (int64_t depth = 0; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '\n') ++line_;
    if (in_string) {
      if (c == '\\' && at_ + 1 < text_.size()) ++at_;
      if (c == '"') in_string = false;
      continue;
    }
    if (depth == 0 && (c == ',' || c == ']')) return;
    in_string = c == '"';
    depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
  }
  fault("the end of the array, \"]\"");
}

bool JsonElements::next(std::string* element, int64_t* line) {
  skip_space();
  if (peek() == ']') {
    ++at_;
    skip_space();
    if (at_ < text_.size()) fault("nothing after the array");
    return false;
  }
  if (!first_) {
    ++at_;  // the comma
    skip_space();
  }
  first_ = false;
  begin_ = at_;
  *line = line_;
  skip_element();
  if (at_ == begin_) fault("a value");
  element->assign(text_, begin_, at_ - begin_);
  return true;
}

void JsonElements::fault(const char* expected) const {
  const std::string found =
      at_ < text_.size() ? fmt::format("\"{}\"", text_[at_]) : std::string("the end of the file");
  fail_input("{}:{}: expected {}, found {}", file_, line_, expected, found);
}

}  // namespace forja
