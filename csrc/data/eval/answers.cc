// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <optional>

#include "csrc/data/regex.h"
#include "forja/data/eval_task.h"
#include "forja/data/python_text.h"

namespace forja {
namespace {

constexpr const char* kInvalid = "[invalid]";

std::string without(const std::string& pattern, const std::string& text) {
  const Regex regex(pattern);
  RegexMatcher matcher(regex);
  std::string out;
  size_t at = 0, begin = 0, end = 0;
  while (at <= text.size() && matcher.find(text, at, &begin, &end)) {
    out += text.substr(at, begin - at);
    at = end;
  }
  return out + text.substr(std::min(at, text.size()));
}

std::string compared(const EvalTask& task, std::string text) {
  for (const std::string& pattern : task.regexes_to_ignore) text = without(pattern, text);
  const auto ascii = [](char c) { return uint8_t(c) < 0x80; };
  if (task.ignore_case)
    for (char& c : text)
      if (ascii(c)) c = char(std::tolower(c));
  if (task.ignore_punctuation)
    std::erase_if(text, [&](char c) { return ascii(c) && std::ispunct(c); });
  return text;
}

}  // namespace

std::string find_answer(const AnswerFilter& filter, const std::string& text) {
  if (filter.pattern.empty()) return std::string(strip(text));
  const Regex regex(filter.pattern);
  RegexMatcher matcher(regex);
  std::optional<std::string> answer;
  size_t at = 0, begin = 0, end = 0;
  while (at <= text.size() && (!answer || filter.last) && matcher.find(text, at, &begin, &end)) {
    answer = strip(text.substr(begin, end - begin));
    at = end;
  }
  return answer.value_or(kInvalid);
}

bool is_exact_match(const EvalTask& task, const std::string& answer, const std::string& target) {
  return compared(task, answer) == compared(task, target);
}

}  // namespace forja
