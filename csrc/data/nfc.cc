// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/nfc.h"

#include <utf8proc.h>

#include <cstdint>
#include <cstdlib>

#include "forja/base/error.h"

namespace forja {
namespace {

// Blocks in which every character is in NFC and never combines with the one before it. Other
// characters may be in NFC too: those lines just take the longer way.
bool never_changes(uint32_t c) {
  return c < 0x300 || (c >= 0x400 && c <= 0x482) || (c >= 0x2010 && c <= 0x2027) ||
         (c >= 0x2030 && c <= 0x205E) || (c >= 0x3001 && c <= 0x3029) ||
         (c >= 0x3041 && c <= 0x3096) || (c >= 0x30A1 && c <= 0x30FA) ||
         (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3) ||
         (c >= 0xFF01 && c <= 0xFFEE) || (c >= 0x1F300 && c <= 0x1FAFF);
}

bool is_stable(std::string_view line) {
  const auto* p = reinterpret_cast<const uint8_t*>(line.data());
  const auto* end = p + line.size();
  while (p < end) {
    if (*p < 0x80) {
      ++p;
      continue;
    }
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(p, end - p, &c);
    if (length <= 0 || !never_changes(uint32_t(c))) return false;
    p += length;
  }
  return true;
}

void append_composed(std::string_view line, std::string* out) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(line.data()),
                                             utf8proc_ssize_t(line.size()), &composed,
                                             utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0)
    fail_input("cannot normalise a text of {} bytes: {}", line.size(), utf8proc_errmsg(size));
  out->append(reinterpret_cast<const char*>(composed), size_t(size));
  std::free(composed);
}

}  // namespace

// A line end never combines with a neighbour, so lines are independent.
std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t found = text.find('\n');
    const std::string_view line = text.substr(0, found == text.npos ? text.size() : found + 1);
    if (is_stable(line)) {
      out += line;
    } else {
      append_composed(line, &out);
    }
    text.remove_prefix(line.size());
  }
  return out;
}

size_t nfc_cluster_size(std::string_view text) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  size_t at = 0;
  do {
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t length =
        utf8proc_iterate(p + at, utf8proc_ssize_t(text.size() - at), &c);
    if (length <= 0 || (at > 0 && never_changes(uint32_t(c)))) break;
    at += size_t(length);
  } while (at < text.size());
  return at > 0 ? at : 1;
}

}  // namespace forja
