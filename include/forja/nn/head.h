// SPDX-License-Identifier: Apache-2.0
// The final norm and the classifier over the vocabulary. It gives per-token log-probabilities and
// takes per-token coefficients back; cross-entropy is the case where these are known beforehand.
// Logits exist only for a chunk of rows at a time. Source of the fusion: Wijmans et al., "Cut Your
// Losses in Large-Vocabulary Language Models", 2024.
#pragma once

#include "forja/nn/model_config.h"
#include "forja/nn/norm.h"
#include "forja/parallel/parameter.h"

namespace forja {

// Legend: N rows, E hidden size, V vocabulary.
class Head {
 public:
  struct Stash {
    Norm::Stash norm;
    Tensor hidden;    // [N, E] after the final norm
    Tensor d_hidden;  // [N, E] made by the fused forward pass
  };

  // `tied` is the embedding whose table the head reads, or nullptr.
  Head(ParameterStore& store, const ModelConfig& model, Parameter* tied);

  // hidden = norm(residual + branch), from `arena`. A branch without dims means that there is none.
  void normalize(const Context& ctx, Arena& arena, const Tensor& residual, const Tensor& branch,
                 Stash& stash) const;

  // log_probabilities [N] fp32 of targets [N] int32 (negative: none, gives 0).
  void forward(const Context& ctx, const Tensor& hidden, const Tensor& targets,
               const Tensor& log_probabilities) const;

  // The same, and the gradient of -sum coefficient[n] log_probability[n]: d_hidden, and into the
  // weight's gradient.
  void forward_backward(const Context& ctx, const Tensor& hidden, const Tensor& targets,
                        const Tensor& coefficients, const Tensor& log_probabilities,
                        const Tensor& d_hidden) const;

  // d_x [N, E] = gradient of residual + branch.
  void backward_input(const Context& ctx, const Stash& stash, const Tensor& d_x) const;

  // logits [n, V] fp32 of hidden [n, E], for generation.
  void logits(const Context& ctx, const Tensor& hidden, const Tensor& logits) const;

  int64_t chunk_rows(int64_t rows) const;

 private:
  void chunk_statistics(const Context& ctx, const Tensor& logits, const Tensor& targets,
                        const Tensor& lse, const Tensor& log_probabilities) const;

  Norm norm_;
  Parameter* weight_;
};

}  // namespace forja
