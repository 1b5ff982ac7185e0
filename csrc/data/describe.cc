// SPDX-License-Identifier: Apache-2.0
// Words about tokenizers and datasets for `forja inspect`.
#include <algorithm>

#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/base/text.h"
#include "forja/data/dataset.h"
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
  text += fmt::format("  {:<18}{}, of them {} special; the longest token has {} bytes\n",
                      "vocabulary", tokenizer->vocab_size(), special, longest);
  text += special_line(*tokenizer, "beginning of text", tokenizer->bos_id());
  text += special_line(*tokenizer, "end of text", tokenizer->eos_id());
  text += fmt::format("  {:<18}{}\n", "hash", hash_hex(tokenizer->hash()));
  text += fmt::format("  {:<18}", "some tokens");
  const int64_t size = tokenizer->vocab_size();
  for (int64_t i = 1; i <= 8; ++i)
    text += shown(tokenizer->token_text(int32_t(size * i / 9))) + (i < 8 ? " " : "\n");
  return text;
}

namespace {

constexpr int64_t kSamples = 3, kSampleTokens = 40;

// The first tokens of some documents, as text where the dataset holds its tokenizer.
std::string sample_lines(const Dataset& dataset) {
  std::unique_ptr<Tokenizer> tokenizer;
  for (const char* name : {"/tokenizer.json", "/tokenizer.model"}) {
    const std::string file = dataset.directory() + name;
    if (!tokenizer && file_exists(file)) tokenizer = load_tokenizer(file);
  }
  std::string text;
  const int64_t count = std::min(kSamples, dataset.num_documents());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t document = dataset.num_documents() * i / count;
    int64_t begin = 0, end = 0;
    dataset.document_range(document, &begin, &end);
    std::vector<int32_t> ids(size_t(std::min(end - begin, kSampleTokens)));
    dataset.read(begin, int64_t(ids.size()), ids.data());
    text += fmt::format("  document {}, {} tokens: ", document, end - begin);
    if (tokenizer) {
      StreamingDecoder decoder(*tokenizer);
      std::string decoded;
      for (int32_t id : ids) decoded += decoder.push(id);
      text += shown(decoded);
    } else {
      for (int32_t id : ids) text += fmt::format("{} ", id);
    }
    text += int64_t(ids.size()) < end - begin ? " ...\n" : "\n";
  }
  return text;
}

}  // namespace

std::string describe_dataset(const std::string& directory, bool verify) {
  const Dataset dataset(directory);
  const DatasetInfo& info = dataset.info();
  std::string text = fmt::format("dataset {}\n", directory);
  const int64_t stored_bytes = info.num_tokens * dtype_bytes(info.dtype) + info.num_documents * 8;
  text += fmt::format("  {:<18}{} ({}) as {}, {}\n", "tokens", info.num_tokens,
                      format_count(double(info.num_tokens)), dtype_name(info.dtype),
                      format_bytes(double(stored_bytes)));
  text += fmt::format("  {:<18}{} of {:.0f} tokens on average, each ends with id {}\n", "documents",
                      info.num_documents,
                      double(info.num_tokens) / double(std::max<int64_t>(1, info.num_documents)),
                      info.eos_id);
  text += fmt::format("  {:<18}{}, {:.2f} bytes a token\n", "text",
                      format_bytes(double(info.num_text_bytes)),
                      double(info.num_text_bytes) / double(std::max<int64_t>(1, info.num_tokens)));
  text += fmt::format("  {:<18}{}, a vocabulary of {}, hash {}\n", "tokenizer", info.tokenizer_kind,
                      info.vocab_size, hash_hex(info.tokenizer_hash));
  text += fmt::format("  {:<18}{}\n", "shards", info.shards.size());
  text += sample_lines(dataset);
  if (verify) {
    dataset.verify();
    text += fmt::format("  {:<18}checksums, document ends and ids are right\n", "verified");
  }
  return text;
}

}  // namespace forja
