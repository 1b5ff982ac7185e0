// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <nlohmann/json.hpp>

#include "forja/base/error.h"
#include "forja/base/text.h"
#include "forja/data/text_source.h"

namespace forja {
namespace {

// Listens to a JSON parse and keeps one field of the outermost object, so that no tree is built.
class FieldListener : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit FieldListener(const std::string& field) : field_(field) {}

  bool key(string_t& name) override {
    if (depth_ == 1) {
      wanted_ = name == field_;
      if (names_.size() < 20) names_.push_back(name);
    }
    return true;
  }
  bool string(string_t& value) override {
    if (depth_ == 1 && wanted_) {
      text_ = std::move(value);
      found_ = true;
      wanted_ = false;
    }
    return other();
  }
  bool start_object(size_t) override { return open(true); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(false); }
  bool end_array() override { return close(); }
  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_unsigned(number_unsigned_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool binary(binary_t&) override { return other(); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& e) override {
    error_ = e.what();
    position_ = position;
    return false;
  }

  bool found() const { return found_; }
  bool is_object() const { return is_object_; }
  std::string take_text() { return std::move(text_); }
  const std::vector<std::string>& names() const { return names_; }
  const std::string& error() const { return error_; }

 private:
  bool open(bool object) {
    if (depth_ == 0) is_object_ = object;
    ++depth_;
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }
  bool other() { return true; }

  const std::string& field_;
  std::string text_, error_;
  std::vector<std::string> names_;
  size_t position_ = 0;
  int depth_ = 0;
  bool wanted_ = false, found_ = false, is_object_ = false;
};

// nlohmann's message without its own prefix.
std::string reason_of(const std::string& message) {
  const size_t at = message.find("syntax error");
  return at == message.npos ? message : message.substr(at);
}

}  // namespace

std::string document_text(RawDocument&& document, const TextSourceOptions& options) {
  int64_t bad = 0;
  if (!is_valid_utf8(document.bytes, &bad)) {
    const int64_t line =
        document.line + std::count(document.bytes.begin(), document.bytes.begin() + bad, '\n');
    fail_input("{}:{}: invalid UTF-8: wrong byte 0x{:02x} at byte offset {} of the file",
               *document.file, line, uint8_t(document.bytes[size_t(bad)]), document.offset + bad);
  }
  if (!document.is_json) return std::move(document.bytes);
  FieldListener listener(options.text_field);
  nlohmann::json::sax_parse(document.bytes, &listener);
  if (!listener.error().empty()) {
    fail_input("{}:{}: not JSON: {}", *document.file, document.line, reason_of(listener.error()));
  }
  if (!listener.is_object())
    fail_input("{}:{}: expected a JSON object on the line", *document.file, document.line);
  if (!listener.found()) {
    const bool there =
        std::count(listener.names().begin(), listener.names().end(), options.text_field) > 0;
    if (there)
      fail_input("{}:{}: the field \"{}\" is not text", *document.file, document.line,
                 options.text_field);
    fail_input(
        "{}:{}: the object has no field \"{}\"; its fields: {}. Name the right one with "
        "--text-field",
        *document.file, document.line, options.text_field, join(listener.names(), ", "));
  }
  return listener.take_text();
}

}  // namespace forja
