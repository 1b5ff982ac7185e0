// SPDX-License-Identifier: Apache-2.0
#include "forja/train/preference.h"

#include <algorithm>
#include <cmath>

#include "forja/base/error.h"

namespace forja {
namespace {

// log(1 + exp(x)), whatever x.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

double sigmoid(double x) {
  return x >= 0 ? 1.0 / (1.0 + std::exp(-x)) : std::exp(x) / (1.0 + std::exp(x));
}

struct Rows {
  int64_t begin, end;
};
Rows rows_of(const Tensor& sequences, size_t i) {
  const int32_t* s = sequences.ptr<int32_t>() + 4 * i;
  return {s[0], s[0] + s[1]};
}

}  // namespace

void PreferenceConfig::visit(ConfigVisitor& v) {
  v.field("loss", loss,
          "Of preference pairs; the reference is the model without the run's adapters. none: data "
          "are texts or samples.",
          one_of({"none", "dpo", "ipo"}));
  v.field("beta", beta, "How much leaving the reference costs.", positive<double>());
}

void PreferenceSums::add(const PreferenceSums& other) {
  loss += other.loss;
  chosen_reward += other.chosen_reward;
  rejected_reward += other.rejected_reward;
  num_accurate += other.num_accurate;
  num_pairs += other.num_pairs;
}

PreferenceSums PreferenceSums::mean() const {
  const double n = std::max(num_pairs, 1.0);
  return {loss / n, chosen_reward / n, rejected_reward / n, num_accurate / n, num_pairs};
}

PairLoss pair_loss(const PreferenceConfig& config, const Answer& chosen, const Answer& rejected,
                   const Answer& reference_chosen, const Answer& reference_rejected) {
  const double beta = config.beta;
  const double c = chosen.log_probability - reference_chosen.log_probability,
               r = rejected.log_probability - reference_rejected.log_probability;
  PairLoss out{.sums = {.chosen_reward = beta * c,
                        .rejected_reward = beta * r,
                        .num_accurate = c > r ? 1.0 : 0.0,
                        .num_pairs = 1.0}};
  if (config.loss == "ipo") {
    const double chosen_tokens = double(std::max<int64_t>(chosen.num_tokens, 1)),
                 rejected_tokens = double(std::max<int64_t>(rejected.num_tokens, 1));
    const double distance = c / chosen_tokens - r / rejected_tokens - 0.5 / beta;
    out.sums.loss = distance * distance;
    out.d_chosen = 2.0 * distance / chosen_tokens;
    out.d_rejected = -2.0 * distance / rejected_tokens;
    return out;
  }
  FORJA_CHECK(config.loss == "dpo", "there is no preference loss {}", config.loss);
  const double margin = beta * (c - r);
  out.sums.loss = softplus(-margin);
  out.d_chosen = -beta * sigmoid(-margin);
  out.d_rejected = -out.d_chosen;
  return out;
}

std::vector<Answer> answers_of(const Tensor& targets, const Tensor& log_probabilities,
                               const Tensor& sequences) {
  std::vector<Answer> out(size_t(sequences.size(0)));
  for (size_t i = 0; i < out.size(); ++i) {
    const Rows rows = rows_of(sequences, i);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      if (targets.ptr<int32_t>()[row] < 0) continue;
      out[i].log_probability += double(log_probabilities.ptr<float>()[row]);
      ++out[i].num_tokens;
    }
  }
  return out;
}

PreferenceSums preference_loss(const PreferenceConfig& config, const std::vector<Answer>& answers,
                               const std::vector<Answer>& reference, double weight,
                               const Tensor& targets, const Tensor& sequences,
                               const Tensor& coefficients) {
  FORJA_CHECK(answers.size() % 2 == 0 && answers.size() == reference.size(),
              "{} answers beside {} of the reference", answers.size(), reference.size());
  if (coefficients.defined()) {
    float* begin = coefficients.ptr<float>();
    std::fill(begin, begin + coefficients.size(0), 0.0f);
  }
  PreferenceSums sums;
  for (size_t i = 0; i < answers.size(); i += 2) {
    const PairLoss pair =
        pair_loss(config, answers[i], answers[i + 1], reference[i], reference[i + 1]);
    sums.add(pair.sums);
    for (size_t side = 0; side < 2 && coefficients.defined(); ++side) {
      const double wanted = -weight * (side == 0 ? pair.d_chosen : pair.d_rejected);
      const Rows rows = rows_of(sequences, i + side);
      for (int64_t row = rows.begin; row < rows.end; ++row)
        if (targets.ptr<int32_t>()[row] >= 0) coefficients.ptr<float>()[row] = float(wanted);
    }
  }
  return sums;
}

}  // namespace forja
