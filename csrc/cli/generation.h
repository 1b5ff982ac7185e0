// SPDX-License-Identifier: Apache-2.0
// What `forja generate` and `forja chat` share.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "csrc/cli/load_model.h"
#include "forja/data/tokenizer.h"
#include "forja/train/generator.h"

namespace forja {

struct GenerationArguments {
  std::string model, tokenizer, precision = "fp32";
  int64_t max_new_tokens = 200;
  SamplingOptions sampling;
  DType dtype() const { return precision == "bf16" ? DType::bf16 : DType::f32; }
};

void add_generation_options(CLI::App& command, GenerationArguments& a);

// A model and its tokenizer; throws bad_input where they do not belong together.
struct GenerationModel {
  explicit GenerationModel(const GenerationArguments& a);
  ModelSource source;
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<int32_t> stop;  // the ids that end a text

  // The ids of a prompt; a model must be given at least one token to continue.
  std::vector<int32_t> encode_prompt(const std::string& prompt) const;
};

}  // namespace forja
