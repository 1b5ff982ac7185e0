// SPDX-License-Identifier: Apache-2.0
// The final norm and the classifier over the vocabulary. It gives per-token log-probabilities and
// takes per-token coefficients back; cross-entropy is the case where these are known beforehand.
// Logits exist only for a chunk of rows at a time. Sources: Wijmans et al., "Cut Your Losses in
// Large-Vocabulary Language Models", 2024 (the fusion); Shoeybi et al., "Megatron-LM", 2019 (the
// vocabulary divided over tensor-parallel ranks).
#pragma once

#include "forja/nn/model_config.h"
#include "forja/nn/norm.h"
#include "forja/nn/tensor_parallel.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

// Legend: N rows, n rows of this rank (N / tp), E hidden size, V vocabulary, v columns of it on
// this rank (none on some, where tp does not divide V).
class Head {
 public:
  struct Stash {
    Norm::Stash norm;
    Tensor hidden;    // [n, E] after the final norm
    Tensor d_hidden;  // [n, E] made by the fused forward pass
  };

  // `tied` is the embedding whose table the head reads, or nullptr.
  Head(ParameterStore& store, const ModelConfig& model, const TensorParallel& tp, int stage,
       Parameter* tied);

  // hidden = norm(residual + branch), from `arena`. A branch without dims means that there is none.
  void normalize(const Context& ctx, Arena& arena, const Tensor& residual, const Tensor& branch,
                 Stash& stash) const;

  // log_probabilities [N] fp32 of targets [N] int32 (negative: none, gives 0), from hidden [n, E].
  // margins [N] fp32 (may be undefined): the target's logit less the largest one, 0 where no token
  // is likelier.
  void forward(const Context& ctx, const Tensor& hidden, const Tensor& targets,
               const Tensor& log_probabilities, const Tensor& margins = {}) const;

  // The same, and the gradient of -sum coefficient[N] log_probability[N]: d_hidden [n, E], and into
  // the weight's gradient.
  void forward_backward(const Context& ctx, const Tensor& hidden, const Tensor& targets,
                        const Tensor& coefficients, const Tensor& log_probabilities,
                        const Tensor& d_hidden) const;

  // d_x [n, E] = gradient of residual + branch.
  void backward_input(const Context& ctx, const Stash& stash, const Tensor& d_x) const;

  // logits [n, V] fp32 of hidden [n, E], for generation (without tensor parallelism).
  void logits(const Context& ctx, const Tensor& hidden, const Tensor& logits) const;

  int64_t chunk_rows(int64_t rows) const;

 private:
  // The rows of the weight that stand for words, without padding.
  Tensor words(const Tensor& table) const;
  int64_t first_word() const;
  int64_t num_words() const;
  void chunk_statistics(const Context& ctx, const Tensor& logits, const Tensor& targets,
                        const Tensor& lse, const Tensor& log_probabilities,
                        const Tensor& margins = {}) const;

  TensorParallel tp_;
  Norm norm_;
  Parameter* weight_;
};

// The table of the vocabulary, [V, E], divided by rows: the embedding, or a head of its own.
ParameterSpec vocabulary_spec(const ModelConfig& model, const std::string& name, int stage);

}  // namespace forja
