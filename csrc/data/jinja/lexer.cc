// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "forja/base/error.h"

namespace forja::jinja {
namespace {

constexpr std::string_view kSpace = " \t\n\r\v\f";

bool is_name_char(char c) { return std::isalnum(uint8_t(c)) || c == '_'; }

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += char(code);
  } else if (code < 0x800) {
    out += char(0xC0 | (code >> 6));
    out += char(0x80 | (code & 0x3F));
  } else {
    out += char(0xE0 | (code >> 12));
    out += char(0x80 | ((code >> 6) & 0x3F));
    out += char(0x80 | (code & 0x3F));
  }
}

class Lexer {
 public:
  explicit Lexer(const std::string& source) {
    for (size_t i = 0; i < source.size(); ++i) {  // "\r\n" and "\r" are line ends too
      if (source[i] != '\r') {
        s_ += source[i];
      } else if (i + 1 == source.size() || source[i + 1] != '\n') {
        s_ += '\n';
      }
    }
    if (!s_.empty() && s_.back() == '\n') s_.pop_back();
  }

  std::vector<Token> run() {
    while (at_ < s_.size()) {
      read_text();
      if (at_ < s_.size()) read_tag();
    }
    add(Token::Kind::end, "");
    return std::move(tokens_);
  }

 private:
  void add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }
  bool sees(std::string_view what) const { return s_.compare(at_, what.size(), what) == 0; }

  void advance(size_t n) {
    line_ += int(std::count(s_.begin() + int64_t(at_), s_.begin() + int64_t(at_ + n), '\n'));
    at_ += n;
  }

  void read_text() {
    const size_t begin = at_;
    size_t tag = begin;
    while (true) {
      tag = std::min(s_.find('{', tag), s_.size());
      if (tag + 1 >= s_.size()) tag = s_.size();
      if (tag == s_.size() || std::string_view("{%#").find(s_[tag + 1]) != std::string_view::npos)
        break;
      ++tag;
    }
    std::string text = s_.substr(begin, tag - begin);
    if (tag < s_.size())
      strip_end(text, s_[tag + 1] != '{', tag + 2 < s_.size() ? s_[tag + 2] : ' ');
    if (strip_next_) text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
    strip_next_ = false;
    if (!text.empty()) add(Token::Kind::text, text);
    advance(tag - begin);
  }

  // The white space before a tag that begins with `mark`; a block or comment takes that of its
  // line.
  void strip_end(std::string& text, bool is_block, char mark) const {
    if (mark == '-') {
      text.erase(text.find_last_not_of(kSpace) + 1);
    } else if (is_block && mark != '+') {
      const size_t last = text.find_last_not_of(" \t");
      const bool starts_line = last == std::string::npos ? at_line_begin() : text[last] == '\n';
      if (starts_line) text.erase(last + 1);
    }
  }
  bool at_line_begin() const { return at_ == 0 || s_[at_ - 1] == '\n'; }

  void read_tag() {
    const char type = s_[at_ + 1];
    advance(2);
    if (type == '#') return read_comment();
    add(type == '{' ? Token::Kind::print_begin : Token::Kind::block_begin, "");
    if (at_ < s_.size() && (s_[at_] == '-' || s_[at_] == '+')) advance(1);
    const std::string end = type == '{' ? "}}" : "%}";
    while (true) {
      advance(std::min(s_.find_first_not_of(kSpace, at_), s_.size()) - at_);
      if (at_ >= s_.size()) fail_input("line {}: the tag is not closed by {}", line_, end);
      const bool strips = sees("-" + end);
      if (depth_ == 0 && (strips || sees(end) || sees("+" + end))) {
        const bool marked = !sees(end);
        add(type == '{' ? Token::Kind::print_end : Token::Kind::block_end, "");
        return end_tag(marked ? 3 : 2, strips, type == '%' && !marked);
      }
      read_token();
    }
  }

  void read_comment() {
    const size_t end = s_.find("#}", at_);
    if (end == std::string::npos) fail_input("line {}: the comment is not closed", line_);
    const char mark = s_[end - 1];
    advance(end - at_);
    end_tag(2, mark == '-', mark != '-' && mark != '+');
  }

  // After a block, the line end that follows it belongs to it.
  void end_tag(size_t size, bool strips, bool trims) {
    advance(size);
    strip_next_ = strips;
    if (trims && at_ < s_.size() && s_[at_] == '\n') advance(1);
  }

  void read_token() {
    const char c = s_[at_];
    if (c == '"' || c == '\'') return read_string(c);
    if (std::isdigit(uint8_t(c))) return read_number();
    if (is_name_char(c)) {
      size_t end = at_;
      while (end < s_.size() && is_name_char(s_[end])) ++end;
      add(Token::Kind::name, s_.substr(at_, end - at_));
      return advance(end - at_);
    }
    static constexpr std::array<std::string_view, 25> kSigns = {
        "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<",
        ">",  "=",  "(",  ")",  "[",  "]",  "{", "}", ",", ".", ":", "|"};
    for (const std::string_view sign : kSigns) {
      if (!sees(sign)) continue;
      if (sign == "(" || sign == "[" || sign == "{") ++depth_;
      if (sign == ")" || sign == "]" || sign == "}") depth_ = std::max(0, depth_ - 1);
      add(Token::Kind::sign, std::string(sign));
      return advance(sign.size());
    }
    fail_input("line {}: \"{}\" is not expected in a tag", line_, c);
  }

  void read_number() {
    size_t end = at_;
    bool has_point = false;
    while (end < s_.size() && (std::isdigit(uint8_t(s_[end])) ||
                               (s_[end] == '.' && !has_point && end + 1 < s_.size() &&
                                std::isdigit(uint8_t(s_[end + 1]))))) {
      has_point |= s_[end] == '.';
      ++end;
    }
    add(Token::Kind::number, s_.substr(at_, end - at_));
    advance(end - at_);
  }

  void read_string(char quote) {
    std::string out;
    size_t i = at_ + 1;
    for (; i < s_.size() && s_[i] != quote; ++i) {
      if (s_[i] != '\\' || i + 1 == s_.size()) {
        out += s_[i];
        continue;
      }
      i = read_escape(i + 1, out);
    }
    if (i >= s_.size()) fail_input("line {}: the string is not closed", line_);
    add(Token::Kind::string, out);
    advance(i + 1 - at_);
  }

  // Of Python's strings; returns where the escape ends.
  size_t read_escape(size_t i, std::string& out) const {
    constexpr std::string_view kLetters = "ntrbfva0'\"\\", kMeant("\n\t\r\b\f\v\a\0'\"\\", 11);
    const size_t digits = s_[i] == 'x' ? 2 : s_[i] == 'u' ? 4 : 0;
    if (digits > 0 && i + digits < s_.size()) {
      const std::string hex = s_.substr(i + 1, digits);
      if (hex.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos) {
        append_utf8(out, uint32_t(std::stoul(hex, nullptr, 16)));
        return i + digits;
      }
    }
    const size_t letter = kLetters.find(s_[i]);
    if (letter == std::string_view::npos) {
      out += '\\';
      out += s_[i];
    } else {
      out += kMeant[letter];
    }
    return i;
  }

  std::string s_;
  size_t at_ = 0;
  int line_ = 1, depth_ = 0;  // of brackets, in which an end of the tag does not count
  bool strip_next_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokens_of(const std::string& source) { return Lexer(source).run(); }

}  // namespace forja::jinja
