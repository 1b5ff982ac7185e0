// SPDX-License-Identifier: Apache-2.0
// Losses of pairs of a chosen and a rejected answer, by what the model and a reference give them.
// Legend: c, r the log-probability of the chosen and the rejected answer, of its learned tokens
// together; c', r' those of the reference.
//   dpo   -log sigmoid(beta ((c - c') - (r - r')))
//   ipo   ((c - c') / tokens - (r - r') / tokens - 1 / (2 beta))^2
// Sources: Rafailov et al., "Direct Preference Optimization", NeurIPS 2023; Azar et al., "A General
// Theoretical Paradigm to Understand Learning from Human Preferences", AISTATS 2024, its mean over
// tokens as TRL has it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forja/base/config.h"
#include "forja/tensor/tensor.h"

namespace forja {

struct PreferenceConfig {
  std::string loss = "none";  // none, dpo, ipo
  double beta = 0.1;
  void visit(ConfigVisitor& v);
  bool is_on() const { return loss != "none"; }
};

// An answer under the model or the reference.
struct Answer {
  double log_probability = 0.0;  // of its learned tokens
  int64_t num_tokens = 0;        // learned
};

// Of one or many pairs. A reward is beta (log-probability - the reference's); the pair is accurate
// where the chosen one's is higher.
struct PreferenceSums {
  double loss = 0.0, chosen_reward = 0.0, rejected_reward = 0.0;
  double num_accurate = 0.0, num_pairs = 0.0;

  void add(const PreferenceSums& other);
  PreferenceSums mean() const;  // over the pairs
};

struct PairLoss {
  PreferenceSums sums;
  double d_chosen = 0.0, d_rejected = 0.0;  // the loss's derivatives by c and r
};
PairLoss pair_loss(const PreferenceConfig& config, const Answer& chosen, const Answer& rejected,
                   const Answer& reference_chosen, const Answer& reference_rejected);

// The answers of a micro-batch: sequence 2 i is the chosen one of pair i, 2 i + 1 the rejected.
//   targets [N] int32, log_probabilities [N] fp32 (0 where there is no target), sequences [2 P, 4]
//   int32 (see ops/attention.h), all in host memory.
std::vector<Answer> answers_of(const Tensor& targets, const Tensor& log_probabilities,
                               const Tensor& sequences);

// Their loss, times `weight` in what it wants of each token: coefficients [N] fp32 (may be
// undefined) becomes what -sum coefficient log_probability has the gradient of.
PreferenceSums preference_loss(const PreferenceConfig& config, const std::vector<Answer>& answers,
                               const std::vector<Answer>& reference, double weight,
                               const Tensor& targets, const Tensor& sequences,
                               const Tensor& coefficients);

}  // namespace forja
