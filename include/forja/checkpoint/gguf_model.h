// SPDX-License-Identifier: Apache-2.0
// A model as a GGUF file with the keys and tensors of llama.cpp's architectures: Llama and Mistral
// are "llama", the others "qwen2", "qwen3" and "gpt2".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "forja/checkpoint/gguf.h"
#include "forja/checkpoint/weight_source.h"
#include "forja/nn/model_config.h"

namespace forja {

struct GgufExport {
  int64_t num_parameters = 0, num_bytes = 0;
  GgufType type = GgufType::f32;
  std::vector<std::string> not_quantized;  // matrices whose rows are no blocks of q8_0: fp16
  std::vector<std::string> extra_tensors;  // of the source, which nothing reads
};

// Throws bad_input, by name, for what llama.cpp's architecture does not compute. Sliding windows
// are let through: see same_until.
void check_gguf_model(const ModelConfig& model);

// Sequences up to this length are computed as the model does: llama.cpp's architectures know no
// sliding window and attend to everything. Nothing: all are.
std::optional<int64_t> same_until(const ModelConfig& model);

// Writes the weights and what the model is into the file `path`, then `tokenizer`. Matrices have
// `type`; nothing: bf16 where the source has all of them so, else fp32. Norms, biases and learned
// positions stay fp32. One parameter at a time is in memory. Throws bad_input as
// check_gguf_model, WeightSource::read and GgufWriter::write do.
GgufExport export_gguf(const WeightSource& weights, const ModelConfig& model,
                       const std::string& name, const GgufMetadata& tokenizer,
                       std::optional<GgufType> type, const std::string& path);

// Rows of a query or key projection from Hugging Face's order of a head's rotary dims, (i, i + d/2)
// turning together, to llama's, where (2i, 2i + 1) do. in, out [rows, columns], d = head_dim.
void interleave_rotary_rows(const float* in, int64_t rows, int64_t columns, int64_t head_dim,
                            float* out);

}  // namespace forja
