// SPDX-License-Identifier: Apache-2.0
// Words about tokenizers and datasets for `forja inspect`.
#include <algorithm>
#include <optional>

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

constexpr int64_t kSamples = 3, kTextTokens = 40, kSampleTokens = 400;

std::unique_ptr<Tokenizer> tokenizer_of(const Dataset& dataset) {
  for (const char* name : {"/tokenizer.json", "/tokenizer.model"}) {
    const std::string file = dataset.directory() + name;
    if (file_exists(file)) return load_tokenizer(file);
  }
  return nullptr;
}

// Control characters of the data do not reach the terminal; lines begin below each other.
std::string without_controls(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\n      ";
    } else if ((uint8_t(c) < 0x20 && c != '\t') || c == 0x7f) {
      out += fmt::format("\\x{:02x}", uint8_t(c));
    } else {
      out += c;
    }
  }
  return out;
}

// Tokens one after the other, learned and special ones marked.
class MarkedText {
 public:
  MarkedText(const Tokenizer* tokenizer, SampleStyle style)
      : tokenizer_(tokenizer), colours_(style == SampleStyle::colours) {
    if (tokenizer) decoder_.emplace(*tokenizer);
  }

  void add(int32_t id, bool learned) {
    const bool special = tokenizer_ && tokenizer_->is_special(id);
    if (learned != learned_ || (special != special_ && colours_)) begin(learned, special);
    if (!tokenizer_) {
      text_ += fmt::format("{} ", id);
    } else if (special) {
      text_ += without_controls(tokenizer_->token_text(id));
    } else {
      text_ += without_controls(decoder_->push(id));
    }
  }

  std::string finish() {
    begin(false, false);
    return text_;
  }

 private:
  void begin(bool learned, bool special) {
    if (decoder_) text_ += decoder_->finish();
    if (colours_) {
      text_ += "\x1b[0m";
      if (special) text_ += learned ? "\x1b[1;35m" : "\x1b[35m";
      if (learned && !special) text_ += "\x1b[32m";
    } else if (learned != learned_) {
      text_ += learned ? "[[" : "]]";
    }
    learned_ = learned;
    special_ = special;
  }

  const Tokenizer* tokenizer_;
  const bool colours_;
  std::optional<StreamingDecoder> decoder_;
  std::string text_;
  bool learned_ = false, special_ = false;
};

// A document of samples: all its tokens, up to a limit.
std::string sample_text(const Dataset& dataset, const Tokenizer* tokenizer, int64_t document,
                        SampleStyle style) {
  int64_t begin = 0, end = 0;
  dataset.document_range(document, &begin, &end);
  std::vector<int32_t> ids(size_t(std::min(end - begin, kSampleTokens)));
  std::vector<uint8_t> learned(ids.size());
  dataset.read(begin, int64_t(ids.size()), ids.data());
  dataset.read_learned(begin, int64_t(ids.size()), learned.data());
  MarkedText text(tokenizer, style);
  for (size_t i = 0; i < ids.size(); ++i) text.add(ids[i], learned[i] != 0);
  const char* name = dataset.info().kind == DatasetKind::samples ? "sample"
                     : document % 2 == 0                         ? "chosen"
                                                                 : "rejected";
  const int64_t number = dataset.info().kind == DatasetKind::samples ? document : document / 2;
  return fmt::format("  {} {}, {} tokens, {} of the first {} learned:\n      {}{}\n", name, number,
                     end - begin, std::count(learned.begin(), learned.end(), uint8_t(1)),
                     ids.size(), text.finish(), int64_t(ids.size()) < end - begin ? " ..." : "");
}

std::string sample_lines(const Dataset& dataset, SampleStyle style) {
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of(dataset);
  const int64_t of_one = dataset.info().kind == DatasetKind::preference_pairs ? 2 : 1;
  const int64_t total = dataset.num_documents() / of_one, count = std::min(kSamples, total);
  std::string text;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t k = 0; k < of_one; ++k)
      text += sample_text(dataset, tokenizer.get(), total * i / count * of_one + k, style);
  return text;
}

// The first tokens of some documents, as text where the dataset holds its tokenizer.
std::string text_lines(const Dataset& dataset) {
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of(dataset);
  std::string text;
  const int64_t count = std::min(kSamples, dataset.num_documents());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t document = dataset.num_documents() * i / count;
    int64_t begin = 0, end = 0;
    dataset.document_range(document, &begin, &end);
    std::vector<int32_t> ids(size_t(std::min(end - begin, kTextTokens)));
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

std::string document_line(const DatasetInfo& info) {
  const double mean = double(info.num_tokens) / double(std::max<int64_t>(1, info.num_documents));
  if (!info.has_masks()) {
    return fmt::format("  {:<18}{} of {:.0f} tokens on average, each ends with id {}\n",
                       "documents", info.num_documents, mean, info.eos_id);
  }
  const bool pairs = info.kind == DatasetKind::preference_pairs;
  return fmt::format(
             "  {:<18}{} of {:.0f} tokens on average, {:.1f} % of them learned\n",
             pairs ? "preference pairs" : "samples",
             pairs ? info.num_documents / 2 : info.num_documents, mean * (pairs ? 2 : 1),
             100.0 * double(info.num_learned) / double(std::max<int64_t>(1, info.num_tokens))) +
         fmt::format("  {:<18}{} records with faults\n", "left out", info.num_left_out);
}

}  // namespace

std::string describe_dataset(const std::string& directory, bool verify, SampleStyle style) {
  const Dataset dataset(directory);
  const DatasetInfo& info = dataset.info();
  std::string text = fmt::format("dataset {}\n", directory);
  const int64_t stored_bytes =
      info.num_tokens * (dtype_bytes(info.dtype) + (info.has_masks() ? 1 : 0)) +
      info.num_documents * 8;
  text += fmt::format("  {:<18}{} ({}) as {}, {}\n", "tokens", info.num_tokens,
                      format_count(double(info.num_tokens)), dtype_name(info.dtype),
                      format_bytes(double(stored_bytes)));
  text += document_line(info);
  text += fmt::format("  {:<18}{}, {:.2f} bytes a token\n", "text",
                      format_bytes(double(info.num_text_bytes)),
                      double(info.num_text_bytes) / double(std::max<int64_t>(1, info.num_tokens)));
  text += fmt::format("  {:<18}{}, a vocabulary of {}, hash {}\n", "tokenizer", info.tokenizer_kind,
                      info.vocab_size, hash_hex(info.tokenizer_hash));
  text += fmt::format("  {:<18}{}\n", "shards", info.shards.size());
  text += info.has_masks() ? sample_lines(dataset, style) : text_lines(dataset);
  if (verify) {
    dataset.verify();
    text += fmt::format("  {:<18}checksums, document ends and ids are right\n", "verified");
  }
  return text;
}

}  // namespace forja
