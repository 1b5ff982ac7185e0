// SPDX-License-Identifier: Apache-2.0
// Checkpoints to Hugging Face model directories and back. One parameter at a time is in memory,
// whatever the size of the model; the names and the layout of tensors are the parameters' own list
// of segments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "forja/checkpoint/hf_config.h"
#include "forja/checkpoint/weight_source.h"
#include "forja/nn/model_config.h"

namespace forja {

struct ConvertOptions {
  std::optional<DType> dtype;  // fp32 or bf16 (rounded to nearest); nothing: as the source has it
  int64_t max_shard_bytes = 5'000'000'000;
};

struct ConvertedModel {
  int64_t num_parameters = 0, num_bytes = 0;
  size_t num_shards = 0;
  DType dtype = DType::f32;                // bf16 where every tensor is
  std::vector<std::string> extra_tensors;  // of the source, which nothing reads
};

// Writes config.json, generation_config.json and the weights into `folder`, an empty directory.
// Throws bad_input where the weights are not of this model, which has no adapters, are damaged, or
// are of a model that Hugging Face's family cannot express.
ConvertedModel export_hf_model(const WeightSource& weights, const ModelConfig& model,
                               const SpecialIds& ids, const ConvertOptions& options,
                               const std::string& folder);

// In which dtype a directory's weights would be stored: bf16 where all are, else fp32 (fp16 widens
// to it without loss).
DType hf_weights_dtype(const std::string& directory);

// Writes a checkpoint of step 0 without moments into `folder`, an empty directory. Throws bad_input
// for a tensor that is missing, damaged or of another shape.
ConvertedModel import_hf_model(const std::string& directory, const ModelConfig& model,
                               const std::string& config_yaml, const ConvertOptions& options,
                               const std::string& folder);

}  // namespace forja
