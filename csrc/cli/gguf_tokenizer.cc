// SPDX-License-Identifier: Apache-2.0
// Keys: llama.cpp's gguf-py/gguf/constants.py; what is done with them: its src/llama-vocab.cpp.
#include "csrc/cli/gguf_tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "forja/base/error.h"
#include "forja/base/log.h"
#include "forja/data/chat_template.h"
#include "forja/data/tokenizer.h"
#include "forja/data/tokenizer_tables.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

constexpr int32_t kUnused = 5;

// llama.cpp's numbers.
int32_t token_type(TokenKind kind) {
  switch (kind) {
    case TokenKind::normal:
      return 1;
    case TokenKind::unknown:
      return 2;
    case TokenKind::control:
      return 3;
    case TokenKind::user_defined:
      return 4;
    case TokenKind::byte:
      return 6;
    case TokenKind::absent:
    case TokenKind::unused:
      break;
  }
  return kUnused;
}

// llama.cpp's name of the code that cuts a text into words.
std::string pre_tokenizer(const TokenizerTables& tables, const std::string& path) {
  std::string name;
  if (tables.split == "gpt-2") name = "gpt-2";
  if (tables.split == "llama-3" && tables.ignore_merges) name = "llama-bpe";
  if (tables.split == "qwen-2") name = "qwen2";
  if (name.empty()) {
    fail_input(
        "{}: llama.cpp would cut texts into other words than this tokenizer, whose pattern is {}: "
        "expected that of GPT-2, Llama 3 or Qwen 2",
        path, tables.split_pattern.empty() ? "none" : tables.split_pattern);
  }
  if (tables.adds_prefix)
    fail_input("{}: llama.cpp puts no space in front of a text with byte-level BPE", path);
  return name;
}

void check_sentencepiece(const TokenizerTables& tables, const std::string& path) {
  constexpr ptrdiff_t kBytes = 256;
  const ptrdiff_t bytes = std::count(tables.kinds.begin(), tables.kinds.end(), TokenKind::byte);
  if (bytes != kBytes) {
    fail_input("{}: llama.cpp needs a token for each byte (byte_fallback), found {} of {}", path,
               bytes, kBytes);
  }
  if (tables.normalizes) {
    log_warning(
        "{}: llama.cpp does not normalise texts as this tokenizer does (characters, runs of "
        "spaces): some get other tokens there",
        path);
  }
}

void add_vocabulary(TokenizerTables tables, int64_t vocab_size, GgufMetadata* out) {
  std::vector<int32_t> types;
  for (TokenKind kind : tables.kinds) types.push_back(token_type(kind));
  types.resize(size_t(vocab_size), kUnused);
  tables.tokens.resize(size_t(vocab_size));
  for (size_t id = 0; id < tables.tokens.size(); ++id)
    if (tables.tokens[id].empty() && types[id] == kUnused)
      tables.tokens[id] = fmt::format("[PAD{}]", id);
  out->emplace_back("tokenizer.ggml.tokens", std::move(tables.tokens));
  out->emplace_back("tokenizer.ggml.token_type", std::move(types));
  if (tables.model == TokenizerTables::Model::sentencepiece) {
    tables.scores.resize(size_t(vocab_size));
    out->emplace_back("tokenizer.ggml.scores", std::move(tables.scores));
    out->emplace_back("tokenizer.ggml.add_space_prefix", tables.adds_prefix);
  } else {
    out->emplace_back("tokenizer.ggml.merges", std::move(tables.merges));
  }
}

void add_special_tokens(const Tokenizer& tokenizer, const std::string& path, GgufMetadata* out) {
  if (const auto id = tokenizer.bos_id())
    out->emplace_back("tokenizer.ggml.bos_token_id", uint32_t(*id));
  if (const auto id = tokenizer.eos_id()) {
    out->emplace_back("tokenizer.ggml.eos_token_id", uint32_t(*id));
  } else {
    log_warning("{} has no end-of-text token; llama.cpp takes one that is not meant so", path);
  }
  out->emplace_back("tokenizer.ggml.add_bos_token", tokenizer.adds_bos());
}

}  // namespace

GgufMetadata gguf_tokenizer(const std::string& path, int64_t vocab_size) {
  if (path.empty()) return {{"tokenizer.ggml.model", std::string("no_vocab")}};
  const auto tokenizer = load_tokenizer(path);
  if (tokenizer->vocab_size() > vocab_size) {
    fail_input("the tokenizer {} has {} ids, the model has {}: they do not belong together", path,
               tokenizer->vocab_size(), vocab_size);
  }
  TokenizerTables tables = read_tokenizer_tables(path);
  GgufMetadata out;
  if (tables.model == TokenizerTables::Model::byte_level) {
    out = {{"tokenizer.ggml.model", std::string("gpt2")},
           {"tokenizer.ggml.pre", pre_tokenizer(tables, path)}};
  } else {
    check_sentencepiece(tables, path);
    out = {{"tokenizer.ggml.model", std::string("llama")},
           {"tokenizer.ggml.pre", std::string("default")}};
  }
  add_vocabulary(std::move(tables), vocab_size, &out);
  add_special_tokens(*tokenizer, path, &out);
  const fs::path folder = fs::is_directory(path) ? fs::path(path) : fs::path(path).parent_path();
  const std::string chat = chat_template_text(folder.empty() ? "." : folder.string()).source;
  if (!chat.empty()) out.emplace_back("tokenizer.chat_template", chat);
  return out;
}

}  // namespace forja
