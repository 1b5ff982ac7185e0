// SPDX-License-Identifier: Apache-2.0
// Words about tokenizers for `forja inspect`.
#include <algorithm>

#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/data/tokenizer.h"

namespace forja {
namespace {

// A token as a line shows it: control characters escaped.
std::string shown(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (uint8_t(c) < 0x20) {
      out += fmt::format("\\x{:02x}", uint8_t(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string special_line(const Tokenizer& tokenizer, const char* name, std::optional<int32_t> id) {
  return id ? fmt::format("  {:<18}{} ({})\n", name, shown(tokenizer.token_text(*id)), *id)
            : fmt::format("  {:<18}none\n", name);
}

}  // namespace

std::string describe_tokenizer(const std::string& path) {
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(path);
  int64_t special = 0;
  size_t longest = 0;
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    special += tokenizer->is_special(id);
    longest = std::max(longest, tokenizer->token_bytes(id).size());
  }
  std::string text = fmt::format("tokenizer {}\n", path);
  text += fmt::format("  {:<18}{}\n", "kind", tokenizer->kind());
  text += fmt::format("  {:<18}{}, of them {} special; the longest token has {} bytes\n", "vocabulary",
                      tokenizer->vocab_size(), special, longest);
  text += special_line(*tokenizer, "beginning of text", tokenizer->bos_id());
  text += special_line(*tokenizer, "end of text", tokenizer->eos_id());
  text += fmt::format("  {:<18}{}\n", "hash", hash_hex(tokenizer->hash()));
  text += fmt::format("  {:<18}", "some tokens");
  const int64_t size = tokenizer->vocab_size();
  for (int64_t i = 1; i <= 8; ++i) text += shown(tokenizer->token_text(int32_t(size * i / 9))) + (i < 8 ? " " : "\n");
  return text;
}

}  // namespace forja
