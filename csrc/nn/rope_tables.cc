// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/rope_tables.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace forja {
namespace {

constexpr double kPi = std::numbers::pi;

double llama3_scaled(const RopeConfig& rope, double inverse, double original_context) {
  const double wavelength = 2.0 * kPi / inverse;
  if (wavelength < original_context / rope.high_freq_factor) return inverse;
  if (wavelength > original_context / rope.low_freq_factor) return inverse / rope.factor;
  const double smooth = (original_context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * inverse / rope.factor + smooth * inverse;
}

// The (fractional) pair of dims that makes `rotations` turns over the original context.
double yarn_dim(const RopeConfig& rope, double rotations, double head_dim,
                double original_context) {
  return head_dim * std::log(original_context / (rotations * 2.0 * kPi)) /
         (2.0 * std::log(rope.rope_theta));
}

double yarn_scaled(const RopeConfig& rope, double inverse, double pair, double head_dim,
                   double original_context) {
  const double low =
      std::max(std::floor(yarn_dim(rope, rope.beta_fast, head_dim, original_context)), 0.0);
  double high = std::min(std::ceil(yarn_dim(rope, rope.beta_slow, head_dim, original_context)),
                         head_dim - 1.0);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);
  return inverse / rope.factor * ramp + inverse * (1.0 - ramp);
}

}  // namespace

RopeFrequencies rope_frequencies(const ModelConfig& model) {
  const RopeConfig& rope = model.rope;
  const double head_dim = double(model.head_dim);
  const double original =
      double(rope.original_max_position_embeddings ? rope.original_max_position_embeddings
                                                   : model.max_position_embeddings);
  RopeFrequencies out{std::vector<double>(size_t(model.head_dim / 2)), 1.0};
  for (size_t i = 0; i < out.inverse.size(); ++i) {
    double inverse = std::pow(rope.rope_theta, -2.0 * double(i) / head_dim);
    if (rope.rope_type == "linear") inverse /= rope.factor;
    if (rope.rope_type == "llama3") inverse = llama3_scaled(rope, inverse, original);
    if (rope.rope_type == "yarn")
      inverse = yarn_scaled(rope, inverse, double(i), head_dim, original);
    out.inverse[i] = inverse;
  }
  if (rope.rope_type == "yarn") {
    out.attention_factor = rope.attention_factor > 0.0 ? rope.attention_factor
                           : rope.factor > 1.0         ? 0.1 * std::log(rope.factor) + 1.0
                                                       : 1.0;
  }
  return out;
}

void fill_rope_tables(const Context& ctx, const ModelConfig& model, const Tensor& cos,
                      const Tensor& sin) {
  if (!cos.data) return;
  const RopeFrequencies frequencies = rope_frequencies(model);
  const int64_t positions = cos.size(0), half = cos.size(1);
  std::vector<float> cosines(size_t(positions * half)), sines(cosines.size());
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = double(p) * frequencies.inverse[size_t(i)];
      cosines[size_t(p * half + i)] = float(std::cos(angle) * frequencies.attention_factor);
      sines[size_t(p * half + i)] = float(std::sin(angle) * frequencies.attention_factor);
    }
  }
  copy_bytes(ctx, cos.data, cosines.data(), cos.num_bytes());
  copy_bytes(ctx, sin.data, sines.data(), sin.num_bytes());
  synchronize(ctx);
}

}  // namespace forja
