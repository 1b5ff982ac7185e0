// SPDX-License-Identifier: Apache-2.0
// Adapters as Hugging Face's PEFT keeps them: a directory of adapter_config.json and
// adapter_model.safetensors. https://huggingface.co/docs/peft/developer_guides/checkpoint
#pragma once

#include <memory>
#include <string>

#include "forja/checkpoint/weight_source.h"
#include "forja/device/context.h"
#include "forja/nn/lora_config.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

bool is_peft_directory(const std::string& path);

struct PeftConfig {
  LoraConfig lora;
  std::string base;  // base_model_name_or_path; a relative one that is beside `directory` is made
                     // absolute
};
// Throws bad_input for a damaged file, and by its name for what Forja does not do (a DoRA, ranks
// that differ among layers, ...).
PeftConfig read_peft_config(const std::string& directory);

// The adapters of `directory`, which are those of `model`: else bad_input says what differs.
std::unique_ptr<WeightSource> open_peft_weights(const std::string& directory,
                                                const ModelConfig& model);
// Fills the adapters of the store.
void load_peft_weights(const Context& ctx, const std::string& directory, const ModelConfig& model,
                       ParameterStore& store);

// What it holds, in words.
std::string describe_peft_adapter(const std::string& directory);

// Writes the model's adapters, fp32 or bf16, into `folder`, an empty directory; returns their
// bytes. `base` is where the model that they are added to is.
int64_t write_peft_adapter(const WeightSource& weights, const ModelConfig& model,
                           const std::string& base, DType dtype, const std::string& folder);

}  // namespace forja
