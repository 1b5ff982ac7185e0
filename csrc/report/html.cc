// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/html.h"

#include <nlohmann/json.hpp>

#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

std::string to_utf8(std::string_view text) {
  std::string clean;
  int64_t bad = 0;
  while (!is_valid_utf8(text, &bad)) {
    clean += text.substr(0, size_t(bad));
    clean += "\xef\xbf\xbd";
    text.remove_prefix(size_t(bad) + 1);
  }
  clean += text;
  return clean;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : to_utf8(text)) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        if (uint8_t(c) >= 0x20 || c == '\n' || c == '\t') escaped += c;
    }
  }
  return escaped;
}

std::string script_string(std::string_view text) {
  std::string safe;
  for (const char c : nlohmann::json(to_utf8(text)).dump()) {
    if (c == '<') {
      safe += "\\u003c";
    } else {
      safe += c;
    }
  }
  return safe;
}

std::string fill_template(std::string_view page, const std::map<std::string, std::string>& values) {
  std::string filled;
  while (true) {
    const size_t open = page.find("{{");
    filled += page.substr(0, open);
    if (open == page.npos) return filled;
    const size_t close = page.find("}}", open);
    FORJA_CHECK(close != page.npos, "a template placeholder does not end");
    const std::string key(page.substr(open + 2, close - open - 2));
    const auto value = values.find(key);
    FORJA_CHECK(value != values.end(), "no value for the template placeholder {}", key);
    filled += value->second;
    page.remove_prefix(close + 2);
  }
}

}  // namespace forja
