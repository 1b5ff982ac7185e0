// SPDX-License-Identifier: Apache-2.0
// Training of a new byte-level BPE tokenizer, with GPT-2's way of cutting text into words: starting
// from the 256 bytes, the most frequent pair of neighbours inside words becomes a token, again and
// again. Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units",
// ACL 2016, algorithm 1, with counts that are updated instead of taken anew. Equal counts: the pair
// of the lower ids wins, so that the result is a function of the texts alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "forja/data/text_source.h"

namespace forja {

struct BpeTrainerOptions {
  int64_t vocab_size = 32000;  // the 256 bytes and the end-of-text token included
  int64_t min_pair_count = 2;  // rarer pairs do not become tokens: the vocabulary may stay smaller
  std::string end_token = "<|endoftext|>";  // the last id
};

class BpeTrainer {
 public:
  // Throws bad_input for a vocabulary below 257.
  explicit BpeTrainer(BpeTrainerOptions options);
  ~BpeTrainer();

  // Counts the words of a text (UTF-8). Memory grows with the number of different words.
  void add(std::string_view text);

  // Trains on what was added and returns the contents of a Hugging Face tokenizer.json. `progress`
  // (may be empty) is called with the number of tokens so far. Throws bad_input when no text was
  // added.
  std::string train(const std::function<void(int64_t)>& progress);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct TrainTokenizerProgress {
  int64_t bytes_done = 0, bytes_total = 0;  // of the input files, as stored
  int64_t num_tokens = 0;                   // of the vocabulary so far; 0 while reading
};

struct TrainTokenizerResult {
  int64_t vocab_size = 0;
  int64_t num_documents = 0, num_text_bytes = 0;
};

// Trains on the files and folders `inputs` and writes tokenizer.json to `output_file`.
TrainTokenizerResult train_tokenizer(
    const std::vector<std::string>& inputs, const TextSourceOptions& text,
    const BpeTrainerOptions& options, const std::string& output_file,
    const std::function<void(const TrainTokenizerProgress&)>& progress);

}  // namespace forja
