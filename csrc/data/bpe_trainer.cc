// SPDX-License-Identifier: Apache-2.0
#include "forja/data/bpe_trainer.h"

#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>
#include <queue>
#include <unordered_map>

#include "csrc/data/bpe_tokenizer.h"
#include "csrc/data/split_pattern.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/text.h"

namespace forja {
namespace {

// Merges pairs inside counted words until the vocabulary is full.
class PairMerger {
 public:
  // `tokens`: the bytes, by id.
  explicit PairMerger(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
    for (size_t id = 0; id < tokens_.size(); ++id) ids_[tokens_[id]] = int32_t(id);
  }

  void add_word(std::string_view bytes, int64_t count) {
    Word word{int64_t(symbols_.size()), int32_t(bytes.size()), count};
    for (char byte : bytes) symbols_.push_back(ids_.at(std::string(1, byte)));
    const uint32_t index = uint32_t(words_.size());
    words_.push_back(word);
    for (int64_t i = word.begin; i + 1 < word.begin + word.length; ++i)
      change(symbols_[i], symbols_[i + 1], count, index);
  }

  void run(int64_t num_tokens, int64_t min_count, const std::function<void(int64_t)>& progress) {
    for (const auto& [pair, info] : pairs_) heap_.push({info.count, pair});
    grown_.clear();
    while (int64_t(tokens_.size()) < num_tokens && !heap_.empty()) {
      const Candidate best = heap_.top();
      heap_.pop();
      const auto at = pairs_.find(best.pair);
      if (at == pairs_.end()) continue;
      if (at->second.count != best.count) {  // it shrank since: back in line
        if (at->second.count >= min_count) heap_.push({at->second.count, best.pair});
        continue;
      }
      if (best.count < min_count) break;
      merge(best.pair);
      if (progress && tokens_.size() % 256 == 0) progress(int64_t(tokens_.size()));
    }
  }

  const std::vector<std::string>& tokens() const { return tokens_; }
  const std::vector<std::pair<int32_t, int32_t>>& merges() const { return merges_; }

 private:
  struct Word {
    int64_t begin;  // of its symbols
    int32_t length;
    int64_t count;
  };
  struct PairInfo {
    int64_t count = 0;
    std::vector<uint32_t> words;  // that have or had the pair
  };
  struct Candidate {
    int64_t count;
    uint64_t pair;  // left << 32 | right
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  void change(int32_t left, int32_t right, int64_t by, uint32_t word) {
    const uint64_t pair = uint64_t(uint32_t(left)) << 32 | uint32_t(right);
    PairInfo& info = pairs_[pair];
    info.count += by;
    if (by <= 0) return;
    if (info.words.empty() || info.words.back() != word) info.words.push_back(word);
    grown_.push_back(pair);
  }

  void merge(uint64_t pair) {
    const int32_t left = int32_t(pair >> 32), right = int32_t(pair & 0xFFFFFFFFu);
    // The same text may come about in two ways ("ab" + "c", "a" + "bc"): it stays one token.
    const auto [at, is_new] =
        ids_.emplace(tokens_[size_t(left)] + tokens_[size_t(right)], int32_t(tokens_.size()));
    if (is_new) tokens_.push_back(at->first);
    merges_.push_back({left, right});
    std::vector<uint32_t> words = std::move(pairs_.at(pair).words);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    for (uint32_t word : words) merge_in(word, left, right, at->second);
    pairs_.erase(pair);
    std::sort(grown_.begin(), grown_.end());
    grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
    for (uint64_t grown : grown_) {
      const auto info = pairs_.find(grown);
      if (info != pairs_.end()) heap_.push({info->second.count, grown});
    }
    grown_.clear();
  }

  // Replaces left right by `result` in one word, and the counts of the pairs around it.
  void merge_in(uint32_t index, int32_t left, int32_t right, int32_t result) {
    Word& word = words_[index];
    int32_t* s = symbols_.data() + word.begin;
    int32_t kept = 0;
    for (int32_t i = 0; i < word.length; ++i) {
      if (i + 1 == word.length || s[i] != left || s[i + 1] != right) {
        s[kept++] = s[i];
        continue;
      }
      if (kept > 0) {
        change(s[kept - 1], left, -word.count, index);
        change(s[kept - 1], result, word.count, index);
      }
      if (i + 2 < word.length) {
        change(right, s[i + 2], -word.count, index);
        change(result, s[i + 2], word.count, index);
      }
      s[kept++] = result;
      ++i;
    }
    word.length = kept;
  }

  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<std::pair<int32_t, int32_t>> merges_;
  std::vector<int32_t> symbols_;
  std::vector<Word> words_;
  std::unordered_map<uint64_t, PairInfo> pairs_;
  std::vector<uint64_t> grown_;
  std::priority_queue<Candidate> heap_;
};

// The 256 bytes in the order of their characters, as in GPT-2.
std::vector<std::string> byte_tokens() {
  std::vector<std::pair<std::string, std::string>> spelt;
  for (int byte = 0; byte < 256; ++byte)
    spelt.push_back({byte_level_character(uint8_t(byte)), std::string(1, char(byte))});
  std::sort(spelt.begin(), spelt.end());  // UTF-8 sorts as its code points do
  std::vector<std::string> tokens;
  for (const auto& [character, byte] : spelt) tokens.push_back(byte);
  return tokens;
}

std::string spelling(const std::string& token) {
  std::string text;
  for (char byte : token) text += byte_level_character(uint8_t(byte));
  return text;
}

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// One entry a line in the long lists, so that the file can be read and compared.
std::string print_tokenizer_json(const PairMerger& merger, const std::string& end_token) {
  const size_t end_id = merger.tokens().size();
  std::string out = fmt::format(
      R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [
    {{
      "id": {}, "content": {}, "special": true,
      "single_word": false, "lstrip": false, "rstrip": false, "normalized": false
    }}
  ],
  "normalizer": null,
  "pre_tokenizer": {{
    "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
  }},
  "post_processor": {{
    "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true
  }},
  "decoder": {{
    "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
  }},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": "",
    "end_of_word_suffix": "",
    "fuse_unk": false,
    "byte_fallback": false,
    "vocab": {{
)",
      end_id, quoted(end_token));
  for (size_t id = 0; id < end_id; ++id)
    out += fmt::format("      {}: {},\n", quoted(spelling(merger.tokens()[id])), id);
  out += fmt::format("      {}: {}\n    }},\n    \"merges\": [", quoted(end_token), end_id);
  const char* separator = "\n";
  for (const auto& [left, right] : merger.merges()) {
    const std::string merge =
        spelling(merger.tokens()[size_t(left)]) + " " + spelling(merger.tokens()[size_t(right)]);
    out += separator + ("      " + quoted(merge));
    separator = ",\n";
  }
  return out + "\n    ]\n  }\n}\n";
}

}  // namespace

struct BpeTrainer::State {
  BpeTrainerOptions options;
  std::unique_ptr<Splitter> splitter = make_splitter(kGpt2Pattern);
  std::vector<size_t> ends;
  std::deque<std::string> words;  // owns what the map looks at
  std::unordered_map<std::string_view, int64_t> counts;
};

BpeTrainer::BpeTrainer(BpeTrainerOptions options) : state_(std::make_unique<State>()) {
  if (options.vocab_size < 257) {
    fail_input("a vocabulary of {}: expected at least 257, the bytes and the end-of-text token",
               options.vocab_size);
  }
  if (options.end_token.empty()) fail_input("the end-of-text token has no text");
  state_->options = std::move(options);
}

BpeTrainer::~BpeTrainer() = default;

void BpeTrainer::add(std::string_view text) {
  int64_t bad = 0;
  if (!is_valid_utf8(text, &bad)) fail_input("the text is not UTF-8: wrong byte at offset {}", bad);
  for (size_t begin = 0; begin < text.size();) {
    state_->splitter->split(text, begin, &state_->ends);
    for (size_t end : state_->ends) {
      const std::string_view piece = text.substr(begin, end - begin);
      const auto at = state_->counts.find(piece);
      if (at != state_->counts.end()) {
        ++at->second;
      } else {
        state_->words.emplace_back(piece);
        state_->counts[state_->words.back()] = 1;
      }
      begin = end;
    }
  }
}

std::string BpeTrainer::train(const std::function<void(int64_t)>& progress) {
  if (state_->words.empty()) fail_input("there is no text to train a tokenizer on");
  PairMerger merger(byte_tokens());
  for (const std::string& word : state_->words) merger.add_word(word, state_->counts.at(word));
  merger.run(state_->options.vocab_size - 1, state_->options.min_pair_count, progress);
  return print_tokenizer_json(merger, state_->options.end_token);
}

TrainTokenizerResult train_tokenizer(
    const std::vector<std::string>& inputs, const TextSourceOptions& text,
    const BpeTrainerOptions& options, const std::string& output_file,
    const std::function<void(const TrainTokenizerProgress&)>& progress) {
  BpeTrainer trainer(options);
  TextSource source(inputs, text);
  TrainTokenizerResult result;
  TrainTokenizerProgress done;
  done.bytes_total = source.bytes_total();
  for (RawDocument document; source.next(&document);) {
    const std::string content = document_text(std::move(document), text);
    trainer.add(content);
    result.num_documents += 1;
    result.num_text_bytes += int64_t(content.size());
    done.bytes_done = source.bytes_done();
    if (progress) progress(done);
  }
  const std::string json = trainer.train([&](int64_t num_tokens) {
    done.num_tokens = num_tokens;
    if (progress) progress(done);
  });
  write_file(output_file, json);
  result.vocab_size = load_tokenizer(output_file)->vocab_size();
  return result;
}

}  // namespace forja
