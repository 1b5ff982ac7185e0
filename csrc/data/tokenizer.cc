// SPDX-License-Identifier: Apache-2.0
#include "forja/data/tokenizer.h"

#include <filesystem>

#include "csrc/data/bpe_tokenizer.h"
#include "csrc/data/tokenizer_tables.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/hash.h"
#include "forja/base/text.h"

namespace forja {
namespace fs = std::filesystem;

namespace {

// The tokenizer file that `path` means.
std::string tokenizer_file(const std::string& path) {
  if (!file_exists(path)) fail_input("there is no tokenizer {}", path);
  if (!fs::is_directory(path)) return path;
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    const std::string file = (fs::path(path) / name).string();
    if (file_exists(file)) return file;
  }
  fail_input("the directory {} holds no tokenizer.json and no tokenizer.model", path);
}

std::string config_beside(const std::string& file) {
  const fs::path path(file);
  const fs::path config = path.parent_path() / "tokenizer_config.json";
  return path.filename() == "tokenizer.json" && file_exists(config.string())
             ? read_file(config.string())
             : "";
}

// How many bytes at the end of `text` begin a UTF-8 sequence that is not whole yet.
size_t incomplete_tail(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const uint8_t b = uint8_t(text[text.size() - back]);
    if ((b & 0xC0) == 0x80) continue;
    const size_t length = b >= 0xF0 && b < 0xF5 ? 4 : b >= 0xE0 ? 3 : b >= 0xC2 ? 2 : 1;
    return b < 0xF5 && length > back ? back : 0;
  }
  return 0;
}

// `text` with every wrong byte as U+FFFD.
std::string repaired(std::string_view text) {
  std::string out;
  int64_t bad = 0;
  while (!is_valid_utf8(text, &bad)) {
    out += text.substr(0, size_t(bad));
    out += "\xEF\xBF\xBD";
    text.remove_prefix(size_t(bad) + 1);
  }
  out += text;
  return out;
}

// Nothing for a SentencePiece model.
std::optional<BpeSpec> read_bpe_spec(std::string_view text, const std::string& file) {
  if (text.empty()) fail_input("the tokenizer file {} is empty", file);
  if (fs::path(file).extension() == ".json" || text.starts_with('{'))
    return read_tokenizer_json(text, file, config_beside(file));
  if (looks_like_tiktoken(text)) return read_tiktoken(text, file);
  return std::nullopt;
}

}  // namespace

void Tokenizer::encode(std::string_view text, const EncodeOptions& options,
                       std::vector<int32_t>* ids, std::vector<size_t>* ends) const {
  int64_t bad = 0;
  if (!is_valid_utf8(text, &bad)) fail_input("the text is not UTF-8: wrong byte at offset {}", bad);
  if (options.add_bos && bos_id_) {
    ids->push_back(*bos_id_);
    if (ends) ends->push_back(0);
  }
  if (!text.empty()) encode_text(text, options.special, ids, ends);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<int32_t> ids;
  encode(text, options, &ids);
  return ids;
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids) const {
  std::string text;
  bool at_start = strips_first_space_;
  for (int32_t id : ids) {
    std::string_view bytes = token_bytes(id);
    if (at_start && !is_special(id)) {
      if (bytes.starts_with(' ')) bytes.remove_prefix(1);
      at_start = false;
    }
    text += bytes;
  }
  return text;
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  const std::string file = tokenizer_file(path);
  const MappedFile mapped(file);
  const std::string_view text = mapped.text();
  const uint64_t hash = hash_text(text);
  auto spec = read_bpe_spec(text, file);
  if (!spec) return make_sentencepiece_tokenizer(text, file, hash);
  try {
    return make_bpe_tokenizer(std::move(*spec), hash);
  } catch (const Error& e) {
    fail_input("{}: {}", file, e.what());
  }
}

TokenizerTables read_tokenizer_tables(const std::string& path) {
  load_tokenizer(path);  // throws for what is no tokenizer
  const std::string file = tokenizer_file(path);
  const MappedFile mapped(file);
  try {
    const auto spec = read_bpe_spec(mapped.text(), file);
    return spec ? bpe_tables(*spec) : sentencepiece_tables(mapped.text());
  } catch (const Error& e) {
    fail_input("{}: {}", file, e.what());
  }
}

uint64_t tokenizer_file_hash(const std::string& path) {
  return hash_text(MappedFile(tokenizer_file(path)).text());
}

void copy_tokenizer(const std::string& path, const std::string& directory) {
  const std::string file = tokenizer_file(path), text = read_file(file);
  const bool json = fs::path(file).extension() == ".json" || text.starts_with('{');
  write_file(directory + (json ? "/tokenizer.json" : "/tokenizer.model"), text);
  if (const std::string config = config_beside(file); !config.empty()) {
    write_file(directory + "/tokenizer_config.json", config);
  }
}

StreamingDecoder::StreamingDecoder(const Tokenizer& tokenizer, bool at_start)
    : tokenizer_(tokenizer), at_start_(at_start && tokenizer.strips_first_space()) {}

std::string StreamingDecoder::push(int32_t id) {
  std::string_view bytes = tokenizer_.token_bytes(id);
  if (at_start_ && !tokenizer_.is_special(id)) {
    if (bytes.starts_with(' ')) bytes.remove_prefix(1);
    at_start_ = false;
  }
  held_ += bytes;
  const size_t tail = incomplete_tail(held_);
  const std::string out = repaired(std::string_view(held_).substr(0, held_.size() - tail));
  held_.erase(0, held_.size() - tail);
  return out;
}

std::string StreamingDecoder::finish() {
  const std::string out = repaired(held_);
  held_.clear();
  return out;
}

}  // namespace forja
