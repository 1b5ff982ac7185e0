// SPDX-License-Identifier: Apache-2.0
// Finding the model that a command's MODEL argument means.
#pragma once

#include <memory>
#include <string>

#include "forja/data/tokenizer.h"
#include "forja/train/generator.h"
#include "forja/train/load_weights.h"
#include "forja/train/run_config.h"

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

// A checkpoint, or the newest one of a run directory; throws bad_input when `path` is neither.
std::string find_checkpoint(const std::string& path);
// The tokenizer that the run names, else the copy in its training data; "" when both are gone.
std::string tokenizer_of_run(const RunConfig& run);
// A file, or a directory that holds a tokenizer.
bool has_tokenizer(const std::string& path);

std::unique_ptr<Generator> make_generator(const ModelSource& source, DType dtype,
                                          int64_t num_sequences, int64_t max_tokens);

}  // namespace forja
