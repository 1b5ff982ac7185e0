// SPDX-License-Identifier: Apache-2.0
// The names of parameters in Hugging Face checkpoints, and ours.
#pragma once

#include <string>
#include <vector>

#include "forja/nn/model_config.h"
#include "forja/parallel/parameter.h"

namespace forja {

// "layers.3".
std::string layer_name(int64_t layer);
// Their module of our part of a layer ("attention_norm", "attention.q_norm", ...), without
// ".weight".
std::string hf_layer_name(const ModelConfig& model, int64_t layer, const std::string& part);
// Their module of our part outside the layers: "embedding", "position_embedding", "final_norm",
// "head".
std::string hf_model_name(const ModelConfig& model, const std::string& part);
// The pieces of a linear layer: fused qkv has three, fused gate and up two; GPT-2 stores [in, out].
std::vector<HfSegment> hf_segments(const ModelConfig& model, int64_t layer, const std::string& part,
                                   int64_t outputs);

}  // namespace forja
