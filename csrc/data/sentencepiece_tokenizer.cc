// SPDX-License-Identifier: Apache-2.0
// SentencePiece models through their library. Control tokens (<s>, </s>) never come from plain
// text; SpecialText::parsed cuts the text at them first, and each part is then a text of its own,
// with its own dummy prefix.
#include <sentencepiece_processor.h>

#include <string>
#include <vector>

#include "csrc/data/bpe_tokenizer.h"
#include "csrc/data/sentencepiece_check.h"
#include "forja/base/error.h"

namespace forja {
namespace {

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string_view model, const std::string& path, uint64_t hash) {
    try {
      check_sentencepiece_model(model);
    } catch (const Error& e) {
      refuse(path, e.what());
    }
    const auto status = processor_.LoadFromSerializedProto({model.data(), model.size()});
    if (!status.ok()) refuse(path, status.ToString());
    kind_ = "SentencePiece";
    hash_ = hash;
    vocab_size_ = processor_.GetPieceSize();
    if (processor_.bos_id() >= 0) bos_id_ = processor_.bos_id();
    if (processor_.eos_id() >= 0) eos_id_ = processor_.eos_id();
    adds_bos_ = bos_id_.has_value();
    for (int32_t id = 0; id < vocab_size_; ++id) {
      bytes_.push_back(bytes_of(id));
      if (processor_.IsControl(id)) finder_.add({id, processor_.IdToPiece(id), true});
    }
    // The library drops the dummy prefix of a decoded text; see whether this model has one.
    std::vector<int> ids;
    std::string text;
    if (processor_.Encode("a", &ids).ok()) {
      for (int id : ids) text += bytes_[size_t(id)];
    }
    strips_first_space_ = text == " a";
  }

  std::string_view token_bytes(int32_t id) const override { return bytes_[check_id(id)]; }
  std::string token_text(int32_t id) const override {
    return processor_.IdToPiece(int(check_id(id)));
  }
  bool is_special(int32_t id) const override {
    return processor_.IsControl(int(check_id(id))) || processor_.IsUnknown(id);
  }
  std::optional<int32_t> find_special(std::string_view content) const override {
    const int id = processor_.PieceToId({content.data(), content.size()});
    if (processor_.IdToPiece(id) != content || !processor_.IsControl(id)) return std::nullopt;
    return id;
  }

 protected:
  void encode_text(std::string_view text, SpecialText special, std::vector<int32_t>* ids,
                   std::vector<size_t>* ends) const override {
    finder_.split(
        text, special,
        [&](std::string_view part) {
          if (ends) return encode_with_ends(part, size_t(part.data() - text.data()), ids, ends);
          std::vector<int> part_ids;
          const auto status = processor_.Encode({part.data(), part.size()}, &part_ids);
          if (!status.ok())
            fail("SentencePiece cannot encode {} bytes: {}", part.size(), status.ToString());
          ids->insert(ids->end(), part_ids.begin(), part_ids.end());
        },
        [&](int32_t id, size_t end) {
          ids->push_back(id);
          if (ends) ends->push_back(end);
        });
  }

 private:
  void encode_with_ends(std::string_view part, size_t begin, std::vector<int32_t>* ids,
                        std::vector<size_t>* ends) const {
    const auto encoded = processor_.EncodeAsImmutableProto({part.data(), part.size()});
    for (const auto& piece : encoded.pieces()) {
      ids->push_back(int32_t(piece.id()));
      ends->push_back(begin + piece.end());
    }
  }

  [[noreturn]] static void refuse(const std::string& path, const std::string& why) {
    fail_input(
        "{} is no tokenizer: expected a Hugging Face tokenizer.json, a SentencePiece model ({}) or "
        "a tiktoken file",
        path, why.substr(0, 200));
  }

  size_t check_id(int32_t id) const {
    if (id < 0 || id >= vocab_size_) {
      fail_input("token id {} is outside of the tokenizer's vocabulary of {}", id, vocab_size_);
    }
    return size_t(id);
  }

  std::string bytes_of(int32_t id) const {
    if (processor_.IsControl(id)) return "";
    if (processor_.IsUnknown(id)) return " \xE2\x81\x87 ";
    const std::string& piece = processor_.IdToPiece(id);
    if (processor_.IsByte(id))
      return std::string(1, char(std::stoi(piece.substr(3, 2), nullptr, 16)));
    constexpr std::string_view kMark = "\xE2\x96\x81";
    std::string text;
    for (size_t i = 0; i < piece.size();) {
      const bool mark = std::string_view(piece).substr(i, kMark.size()) == kMark;
      text += mark ? ' ' : piece[i];
      i += mark ? kMark.size() : 1;
    }
    return text;
  }

  sentencepiece::SentencePieceProcessor processor_;
  AddedTokenFinder finder_;
  std::vector<std::string> bytes_;  // by id
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view model,
                                                        const std::string& path, uint64_t hash) {
  return std::make_unique<SentencePieceTokenizer>(model, path, hash);
}

}  // namespace forja
