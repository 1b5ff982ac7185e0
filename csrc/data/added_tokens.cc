// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/added_tokens.h"

#include <algorithm>

namespace forja {
namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
// Good enough beside markup: every byte of a character beyond ASCII counts as part of a word.
bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
         uint8_t(c) >= 0x80;
}

}  // namespace

void AddedTokenFinder::add(const AddedToken& token) {
  if (token.content.empty()) return;
  owned_.push_back(std::make_unique<std::string>(token.content));
  by_content_[*owned_.back()] = tokens_.size();
  tokens_.push_back(token);
  first_bytes_[uint8_t(token.content[0])] = true;
  all_special_ &= token.special;
  lengths_.push_back(token.content.size());
  std::sort(lengths_.begin(), lengths_.end(), std::greater<>());
  lengths_.erase(std::unique(lengths_.begin(), lengths_.end()), lengths_.end());
}

const AddedToken* AddedTokenFinder::find_at(std::string_view text, size_t at) const {
  for (size_t length : lengths_) {
    if (length > text.size() - at) continue;
    const auto found = by_content_.find(text.substr(at, length));
    if (found != by_content_.end()) return &tokens_[found->second];
  }
  return nullptr;
}

void AddedTokenFinder::split(std::string_view text, SpecialText special,
                             const std::function<void(std::string_view)>& text_part,
                             const std::function<void(int32_t, size_t)>& token) const {
  const bool none = tokens_.empty() || (all_special_ && special == SpecialText::plain);
  size_t done = 0;  // everything before is handed out
  for (size_t at = none ? text.size() : 0; at < text.size();) {
    const AddedToken* found = first_bytes_[uint8_t(text[at])] ? find_at(text, at) : nullptr;
    if (!found) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + found->content.size();
    at = end;
    if (found->special && special == SpecialText::plain) continue;
    if (found->single_word &&
        ((begin > 0 && is_word(text[begin - 1])) || (end < text.size() && is_word(text[end])))) {
      continue;
    }
    if (found->lstrip) {
      while (begin > done && is_space(text[begin - 1])) --begin;
    }
    if (found->rstrip) {
      while (end < text.size() && is_space(text[end])) ++end;
    }
    begin = std::max(begin, done);
    if (begin > done) text_part(text.substr(done, begin - done));
    token(found->id, end);
    done = end;
    at = std::max(at, done);
  }
  if (done < text.size()) text_part(text.substr(done));
}

}  // namespace forja
