// SPDX-License-Identifier: Apache-2.0
// A model's config.json, as transformers reads it from 4.4x to 5: what changed its name is written
// under both.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "forja/base/dtype.h"
#include "forja/nn/model_config.h"

namespace forja {

// Ids of the tokenizer's special tokens, where it has them.
struct SpecialIds {
  std::optional<int32_t> bos, eos;
};

// The text of config.json. Throws bad_input, naming the keys, for a model that its model_type has
// no words for (such as a Llama with a sliding window): it is read back and compared.
std::string hf_config_json(const ModelConfig& model, DType dtype, const SpecialIds& ids);

// The text of generation_config.json.
std::string hf_generation_config_json(const SpecialIds& ids);

}  // namespace forja
