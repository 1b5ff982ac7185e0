// SPDX-License-Identifier: Apache-2.0
// A model's weights from wherever they are, one parameter at a time: whatever the size of the
// model, one of them is in memory.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "forja/nn/model_config.h"
#include "forja/parallel/parameter.h"

namespace forja {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // Whole, in fp32. Throws bad_input for a parameter that is missing, damaged or of another shape.
  virtual std::vector<float> read(const ParameterSpec& spec) const = 0;
  // How it is stored: bf16, or fp32 for all else.
  virtual DType dtype(const ParameterSpec& spec) const = 0;
  // Of the tensors that are not of these parameters.
  virtual std::vector<std::string> names_beside(const std::vector<ParameterSpec>& specs) const = 0;
};

// Throw bad_input where there is none at `path`, or a damaged one.
std::unique_ptr<WeightSource> open_checkpoint_weights(const std::string& path);
std::unique_ptr<WeightSource> open_hf_weights(const std::string& directory);

// `over` for the parameters that it `has`, else `base`.
std::unique_ptr<WeightSource> overlay_weights(std::unique_ptr<WeightSource> base,
                                              std::unique_ptr<WeightSource> over,
                                              std::function<bool(const ParameterSpec&)> has);

// The weights of `model` without its adapters, which are added to them; rounded as the base is.
std::unique_ptr<WeightSource> merge_adapters(std::unique_ptr<WeightSource> weights,
                                             const ModelConfig& model);

// The descriptions of a model's parameters.
std::vector<ParameterSpec> parameters_of(const ModelConfig& model);

}  // namespace forja
