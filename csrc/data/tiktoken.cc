// SPDX-License-Identifier: Apache-2.0
// Reads tiktoken's files: one line "base64 rank" a token. Ranks are ids and the order of merging:
// two neighbours merge when their bytes together are a token, the lowest rank first. What the file
// does not say (the split pattern, the special tokens) follows from the number of tokens.
#include <array>
#include <charconv>
#include <unordered_map>

#include "csrc/data/bpe_tokenizer.h"
#include "csrc/data/split_pattern.h"
#include "forja/base/error.h"

namespace forja {
namespace {

bool decode_base64(std::string_view text, std::string* bytes) {
  bytes->clear();
  if (text.empty() || text.size() % 4 != 0) return false;
  uint32_t bits = 0;
  int held = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '=') return i + 2 >= text.size();
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) return false;
    bits = bits << 6 | uint32_t(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes->push_back(char(bits >> held & 0xFF));
    }
  }
  return true;
}

// No token of a known file is half as long; looking for its merges takes the square of its length.
constexpr size_t kMostTokenBytes = 512;

bool parse_line(std::string_view line, std::string* bytes, int64_t* rank) {
  const size_t space = line.find(' ');
  if (space == line.npos || !decode_base64(line.substr(0, space), bytes)) return false;
  if (bytes->size() > kMostTokenBytes) return false;
  const char* end = line.data() + line.size();
  const auto [at, error] = std::from_chars(line.data() + space + 1, end, *rank);
  return error == std::errc() && at == end;
}

std::string_view take_line(std::string_view* text) {
  const size_t found = text->find('\n');
  std::string_view line = text->substr(0, found);
  text->remove_prefix(found == text->npos ? text->size() : found + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// Every way to cut a token into two tokens is a merge.
std::vector<BpeMerge> merges_of(const std::vector<std::string>& tokens) {
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(tokens.size() * 2);
  for (size_t id = 0; id < tokens.size(); ++id) ids[tokens[id]] = int32_t(id);
  std::vector<BpeMerge> merges;
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut));
      const auto right = ids.find(token.substr(cut));
      if (left != ids.end() && right != ids.end()) {
        merges.push_back({left->second, right->second, int32_t(id), int32_t(id)});
      }
    }
  }
  return merges;
}

// The 256 special tokens of Llama 3, as its published tokenizer.json names them.
void add_llama3_tokens(BpeSpec* spec) {
  int32_t next = int32_t(spec->tokens.size());
  const auto add = [&](const std::string& content) {
    spec->added.push_back({next++, content, true});
  };
  int reserved = 0;
  const auto add_reserved = [&](int until) {
    for (; reserved < until; ++reserved)
      add(fmt::format("<|reserved_special_token_{}|>", reserved));
  };
  add("<|begin_of_text|>");
  add("<|end_of_text|>");
  add_reserved(4);
  add("<|start_header_id|>");
  add("<|end_header_id|>");
  add_reserved(5);
  add("<|eot_id|>");
  add_reserved(251);
}

}  // namespace

bool looks_like_tiktoken(std::string_view text) {
  std::string bytes;
  int64_t rank = 0;
  return parse_line(take_line(&text), &bytes, &rank);
}

BpeSpec read_tiktoken(std::string_view text, const std::string& path) {
  BpeSpec spec;
  std::string bytes;
  for (int64_t line_number = 1; !text.empty(); ++line_number) {
    const std::string_view line = take_line(&text);
    int64_t rank = -1;
    if (line.empty()) continue;
    if (!parse_line(line, &bytes, &rank))
      fail_input("{}:{}: expected \"base64 rank\"", path, line_number);
    if (rank != int64_t(spec.tokens.size())) {
      fail_input("{}:{}: expected rank {}, found {}", path, line_number, spec.tokens.size(), rank);
    }
    spec.tokens.push_back(bytes);
  }
  spec.kind = "byte-level BPE (tiktoken)";
  spec.ignore_merges = true;
  const size_t count = spec.tokens.size();
  if (count == 128000) {
    spec.split_patterns = {kLlama3Pattern};
    spec.adds_bos = true;
    add_llama3_tokens(&spec);
  } else if (count == 50256) {
    spec.split_patterns = {kGpt2Pattern};
    spec.added.push_back({50256, "<|endoftext|>", true});
  } else {
    fail_input(
        "{}: a tiktoken file of {} tokens is none that Forja knows (128000: Llama 3; 50256: "
        "GPT-2); use the "
        "model's tokenizer.json",
        path, count);
  }
  spec.merges = merges_of(spec.tokens);
  spec.eos_id = find_first(spec.added, kUsualEosNames);
  spec.bos_id = find_first(spec.added, kUsualBosNames);
  return spec;
}

}  // namespace forja
