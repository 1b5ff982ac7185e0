// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/tokenizer_tables.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "csrc/data/protobuf_fields.h"
#include "csrc/data/split_pattern.h"
#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

constexpr const char* kUnknown = "<unk>";

std::string spelt(const std::string& bytes) {
  std::string out;
  for (char byte : bytes) out += byte_level_character(uint8_t(byte));
  return out;
}

bool is_byte_token(const std::string& token) {
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>') &&
         token.find_first_not_of("0123456789ABCDEF", 3) == 5;
}

// A pair merges by the rank of the pair there, by the score of the pair's token here: the same as
// long as the merges that make one token stand together in the list.
void add_scores(const BpeSpec& spec, TokenizerTables* out) {
  out->scores.assign(out->tokens.size(), 0.0f);
  float score = 0.0f;
  int32_t last = -1;
  std::vector<bool> seen(out->tokens.size());
  for (const BpeMerge& merge : spec.merges) {
    if (merge.result == last) continue;
    last = merge.result;
    if (seen[size_t(last)]) {
      fail_input("the merges that make \"{}\" do not stand together: no scores of tokens merge so",
                 out->tokens[size_t(last)]);
    }
    seen[size_t(last)] = true;
    out->scores[size_t(last)] = score--;
  }
}

void add_tokens(const BpeSpec& spec, TokenizerTables* out) {
  const bool bytes = spec.alphabet == BpeAlphabet::bytes;
  size_t count = spec.tokens.size();
  for (const AddedToken& token : spec.added) count = std::max(count, size_t(token.id) + 1);
  out->tokens.resize(count);
  out->kinds.assign(count, TokenKind::absent);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& token = spec.tokens[id];
    if (token.empty()) continue;
    out->tokens[id] = bytes ? spelt(token) : token;
    out->kinds[id] = !bytes && is_byte_token(token) ? TokenKind::byte : TokenKind::normal;
  }
  for (const AddedToken& token : spec.added) {
    out->tokens[size_t(token.id)] = token.content;
    out->kinds[size_t(token.id)] = !token.special              ? TokenKind::user_defined
                                   : token.content == kUnknown ? TokenKind::unknown
                                                               : TokenKind::control;
  }
}

// One piece of a SentencePiece model.
void add_piece(std::string_view message, TokenizerTables* out) {
  constexpr uint32_t kPiece = 1, kScore = 2, kType = 3;
  std::string piece;
  float score = 0.0f;
  uint64_t type = 1;
  uint32_t number = 0;
  std::string_view bytes;
  for (ProtobufFields fields(message); fields.next(&number, &bytes);) {
    if (number == kPiece) piece = bytes;
    if (number == kScore && bytes.size() == 4) std::memcpy(&score, bytes.data(), 4);
    if (number == kType) type = fields.value();
  }
  constexpr TokenKind kKinds[] = {TokenKind::absent,  TokenKind::normal,       TokenKind::unknown,
                                  TokenKind::control, TokenKind::user_defined, TokenKind::unused,
                                  TokenKind::byte};
  if (type == 0 || type >= std::size(kKinds)) fail_input("a piece has the type {}", type);
  out->tokens.push_back(piece);
  out->scores.push_back(score);
  out->kinds.push_back(kKinds[type]);
}

void check_trainer(std::string_view message) {
  constexpr uint32_t kModelType = 3;
  constexpr uint64_t kUnigram = 1, kBpe = 2;
  uint64_t type = kUnigram;
  uint32_t number = 0;
  std::string_view bytes;
  for (ProtobufFields fields(message); fields.next(&number, &bytes);)
    if (number == kModelType) type = fields.value();
  if (type != kBpe)
    fail_input("a {} model of SentencePiece; only BPE is supported here",
               type == kUnigram ? "unigram" : "word or character");
}

void read_normalizer(std::string_view message, TokenizerTables* out) {
  constexpr uint32_t kMap = 2, kAddPrefix = 3, kRemoveSpaces = 4;
  bool has_map = false, removes_spaces = true;
  uint32_t number = 0;
  std::string_view bytes;
  for (ProtobufFields fields(message); fields.next(&number, &bytes);) {
    if (number == kMap) has_map = !bytes.empty();
    if (number == kAddPrefix) out->adds_prefix = fields.value() != 0;
    if (number == kRemoveSpaces) removes_spaces = fields.value() != 0;
  }
  out->normalizes = has_map || removes_spaces;
}

}  // namespace

TokenizerTables bpe_tables(const BpeSpec& spec) {
  TokenizerTables out;
  add_tokens(spec, &out);
  out.adds_prefix = spec.prefix_place != PrefixPlace::nowhere;
  if (spec.alphabet == BpeAlphabet::characters) {
    out.model = TokenizerTables::Model::sentencepiece;
    out.normalizes = spec.nfc;
    add_scores(spec, &out);
    return out;
  }
  std::vector<BpeMerge> merges = spec.merges;
  std::stable_sort(merges.begin(), merges.end(),
                   [](const BpeMerge& a, const BpeMerge& b) { return a.rank < b.rank; });
  for (const BpeMerge& merge : merges) {
    out.merges.push_back(spelt(spec.tokens[size_t(merge.left)]) + " " +
                         spelt(spec.tokens[size_t(merge.right)]));
  }
  out.ignore_merges = spec.ignore_merges;
  out.split_pattern = join(spec.split_patterns, "  then  ");
  if (spec.split_patterns.size() == 1) out.split = split_pattern_name(spec.split_patterns[0]);
  return out;
}

TokenizerTables sentencepiece_tables(std::string_view model) {
  constexpr uint32_t kPieces = 1, kTrainer = 2, kNormalizer = 3;
  TokenizerTables out;
  out.model = TokenizerTables::Model::sentencepiece;
  out.adds_prefix = out.normalizes = true;  // what the library takes for a model that says nothing
  std::string_view trainer, bytes;
  uint32_t number = 0;
  for (ProtobufFields fields(model); fields.next(&number, &bytes);) {
    if (number == kPieces) add_piece(bytes, &out);
    if (number == kTrainer) trainer = bytes;
    if (number == kNormalizer) read_normalizer(bytes, &out);
  }
  check_trainer(trainer);
  return out;
}

}  // namespace forja
