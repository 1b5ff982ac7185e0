// SPDX-License-Identifier: Apache-2.0
// Finding the model that a command's MODEL argument means.
#pragma once

#include <memory>
#include <string>

#include "forja/data/tokenizer.h"
#include "forja/train/generator.h"

namespace forja {

// A run directory (its newest checkpoint), a checkpoint, or a Hugging Face directory.
struct ModelSource {
  std::string weights;    // checkpoint or Hugging Face directory
  std::string tokenizer;  // file or directory
  ModelConfig model;
};

// `tokenizer` overrides what the model comes with. Throws bad_input when there is no model at
// `path`.
ModelSource find_model(const std::string& path, const std::string& tokenizer);

std::unique_ptr<Generator> make_generator(const ModelSource& source, DType dtype,
                                          int64_t num_sequences, int64_t max_tokens);

}  // namespace forja
