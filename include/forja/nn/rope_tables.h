// SPDX-License-Identifier: Apache-2.0
// Cosines and sines of rotary positions with the scalings of published models.
// Sources: Su et al., "RoFormer", 2021; Chen et al., "Extending Context Window ... via Positional
// Interpolation", 2023 (linear); Llama 3.1 (llama3); Peng et al., "YaRN", 2023, sections 3.2
// and 3.4 (yarn).
#pragma once

#include <vector>

#include "forja/device/context.h"
#include "forja/nn/model_config.h"
#include "forja/tensor/tensor.h"

namespace forja {

struct RopeFrequencies {
  std::vector<double> inverse;  // [head_dim / 2], radians a position
  double attention_factor;      // multiplies cos and sin
};
RopeFrequencies rope_frequencies(const ModelConfig& model);

// cos, sin [positions, head_dim / 2] fp32, filled unless they have no memory (planning).
void fill_rope_tables(const Context& ctx, const ModelConfig& model, const Tensor& cos,
                      const Tensor& sin);

}  // namespace forja
