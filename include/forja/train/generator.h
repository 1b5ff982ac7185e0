// SPDX-License-Identifier: Apache-2.0
// Text generation with a cache of keys and values, many prompts at once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "forja/nn/decoder.h"

namespace forja {

// Greedy when temperature is 0. top_k 0 and top_p 1 keep every token.
// Source of top-p: Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020.
struct SamplingOptions {
  double temperature = 1.0;
  int64_t top_k = 0;
  double top_p = 1.0;
  uint64_t seed = 0;
};

// The next token from logits [V]. A pure function of (options, stream, position): the same whatever
// else is generated.
int32_t sample_token(const Tensor& logits, const SamplingOptions& options, uint64_t stream,
                     int64_t position);

// A model loaded for inference.
class Generator {
 public:
  // `load` fills the weights of the store. max_tokens: prompt and continuation together, of each
  // sequence.
  Generator(const ModelConfig& model, DType dtype, int64_t num_sequences, int64_t max_tokens,
            const std::function<void(const Context&, ParameterStore&)>& load);

  // Forgets every sequence.
  void reset();
  // Appends tokens to sequences (each in at most one entry) and returns the logits after the last
  // one of each entry, [entries, V] fp32; valid until the next call. Throws bad_input when a
  // sequence grows beyond max_tokens.
  struct Append {
    int64_t sequence;
    std::vector<int32_t> tokens;
  };
  Tensor append(const std::vector<Append>& entries);

  // A text whose last num_targets tokens (at least 1, fewer than all) are scored, each given those
  // before it.
  struct ScoreRequest {
    std::vector<int32_t> tokens;
    int64_t num_targets = 0;
  };
  struct Score {
    double log_probability = 0.0;  // the sum over the targets
    bool greedy = true;            // every target is the likeliest token
  };
  // The scores of all requests, in one pass. Neighbours that differ only in their last token are
  // computed once. Texts are of at most max_tokens + 1 tokens. The cache stays as it is.
  std::vector<Score> score(const std::vector<ScoreRequest>& requests);

  int64_t length(int64_t sequence) const { return lengths_[size_t(sequence)]; }
  int64_t max_tokens() const { return max_tokens_; }
  const ModelConfig& model() const { return decoder_.config(); }

 private:
  // Runs `body` to find out its memory, then with it in the workspace.
  template <class Body>
  auto with_workspace(const Body& body);
  Tensor run(const Context& ctx, const std::vector<Append>& entries, int64_t num_rows);

  int64_t max_tokens_;
  ParameterStore store_;
  Decoder decoder_;
  std::unique_ptr<Arena> weights_, cache_;
  std::unique_ptr<Arena> workspace_;  // grows with the largest call so far
  std::vector<Tensor> keys_, values_;
  std::vector<int64_t> lengths_;
};

struct GenerateOptions {
  int64_t max_new_tokens = 100;
  SamplingOptions sampling;
  std::vector<int32_t> stop;  // ids that end a sequence
};

// Continues every prompt; on_token(sequence, id) for each new token, stop tokens not included: does
// the sequence go on? Prompts must not be empty.
void generate(Generator& generator, const std::vector<std::vector<int32_t>>& prompts,
              const GenerateOptions& options,
              const std::function<bool(int64_t, int32_t)>& on_token);

}  // namespace forja
