// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back. Three kinds of file are read:
//   - a Hugging Face tokenizer.json with a BPE model: byte-level (GPT-2, Llama 3, Qwen 2.5) or in
//   the style of
//     SentencePiece with byte fallback (Llama 2, Mistral);
//   - a SentencePiece .model, through its library;
//   - a tiktoken file of "base64 rank" lines (Llama 3's tokenizer.model, GPT-2's r50k_base).
// Sources: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016
// (BPE); Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (bytes as the
// alphabet); Kudo and Richardson, "SentencePiece", EMNLP 2018.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace forja {

// How special tokens written out in the text ("<|endoftext|>") are read.
enum class SpecialText {
  plain,   // as any other text: documents cannot forge a special token
  parsed,  // as the token: prompts and chat templates
};

struct EncodeOptions {
  SpecialText special = SpecialText::plain;
  bool add_bos = false;  // the beginning-of-text token first, where the tokenizer has one
};

// Immutable after loading; every function may be called from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Appends the ids of `text`, which must be UTF-8 (bad_input with the byte offset otherwise), and
  // to `ends` (may be null), for each of them, where what it stands for ends in `text`; it begins
  // where the one before ends. A token without text of its own (one at the beginning, a dummy
  // prefix, the second of two that share a character) ends where it begins.
  void encode(std::string_view text, const EncodeOptions& options, std::vector<int32_t>* ids,
              std::vector<size_t>* ends = nullptr) const;
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // The bytes of the ids, special tokens written out (SentencePiece's control tokens have no text).
  // A token may end inside a UTF-8 sequence, so may the result. An id outside the vocabulary is
  // bad_input.
  std::string decode(const std::vector<int32_t>& ids) const;

  // The bytes that one id stands for inside a text.
  virtual std::string_view token_bytes(int32_t id) const = 0;
  // The token as its file writes it, for people ("Ġthe", "<0x0A>").
  virtual std::string token_text(int32_t id) const = 0;
  // Added as special, or a control token: not text that the model should show.
  virtual bool is_special(int32_t id) const = 0;
  // The id of a token by its content ("<|im_end|>"), special tokens and added tokens only.
  virtual std::optional<int32_t> find_special(std::string_view content) const = 0;

  // The highest id + 1, added tokens included: what a model's vocab_size must reach.
  int64_t vocab_size() const { return vocab_size_; }
  std::optional<int32_t> bos_id() const { return bos_id_; }
  std::optional<int32_t> eos_id() const { return eos_id_; }
  // The file asks for the beginning-of-text token in front of every text.
  bool adds_bos() const { return adds_bos_; }
  // One space at the very start of a decoded text is the tokenizer's own (SentencePiece's dummy
  // prefix).
  bool strips_first_space() const { return strips_first_space_; }
  // A hash of the bytes of the tokenizer's file.
  uint64_t hash() const { return hash_; }
  // "byte-level BPE", "SentencePiece", ...
  const std::string& kind() const { return kind_; }

 protected:
  virtual void encode_text(std::string_view text, SpecialText special, std::vector<int32_t>* ids,
                           std::vector<size_t>* ends) const = 0;

  int64_t vocab_size_ = 0;
  std::optional<int32_t> bos_id_, eos_id_;
  bool adds_bos_ = false, strips_first_space_ = false;
  uint64_t hash_ = 0;
  std::string kind_;
};

// Loads a tokenizer file, or the one in a directory (tokenizer.json, else tokenizer.model). Names
// of the special tokens come from the tokenizer_config.json beside a tokenizer.json, else from the
// usual names. Throws bad_input: a missing or malformed file, a component that is not supported (by
// its name).
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);

// The hash() of that tokenizer, without loading it.
uint64_t tokenizer_file_hash(const std::string& path);

// Copies the file (and the tokenizer_config.json) of a tokenizer that load_tokenizer(path) reads
// into `directory`, under the names under which load_tokenizer(directory) finds them.
void copy_tokenizer(const std::string& path, const std::string& directory);

// Turns ids into text as they come: holds back the bytes of an incomplete UTF-8 sequence until it
// is whole.
class StreamingDecoder {
 public:
  // `at_start`: the ids begin a text, so the tokenizer's own first space is dropped; false when
  // they continue one.
  explicit StreamingDecoder(const Tokenizer& tokenizer, bool at_start = true);

  // The text that `id` completes; may be empty. Always whole UTF-8 sequences; bytes that can never
  // become one are replaced by U+FFFD.
  std::string push(int32_t id);
  // What was held back, as U+FFFD; call it at the end.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool at_start_;
  std::string held_;
};

// A few lines about a tokenizer for people: kind, sizes, special tokens, some tokens.
std::string describe_tokenizer(const std::string& path);

}  // namespace forja
