// SPDX-License-Identifier: Apache-2.0
// The whole decoder: embedding, layers, head.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "forja/nn/decoder_layer.h"
#include "forja/nn/head.h"
#include "forja/nn/model_config.h"
#include "forja/parallel/parameter.h"

namespace forja {

// Legend: N rows (tokens of a micro-batch), S sequences, E hidden size, V vocabulary.
struct DecoderInput {
  Tensor tokens;        // [N] int32
  Tensor targets;       // [N] int32, negative: none
  Tensor coefficients;  // [N] fp32: the loss is -sum coefficient log_probability; read in training
                        // only
  RowInfo rows;         // rope tables are filled in by the decoder
};

// One micro-batch between its forward and its backward pass.
struct DecoderStash {
  std::vector<LayerStash> layers;
  Head::Stash head;
};

class Decoder {
 public:
  // Declares every parameter in `store`. Positions up to `max_positions` can be used.
  Decoder(ParameterStore& store, const ModelConfig& model, int64_t max_positions);

  // Tables of rotary positions.
  void allocate_constants(Arena& arena);

  // Training: log_probabilities [N] fp32; the head's gradient is made on the way. What backward
  // needs comes from `stash_arena`.
  void forward(const Context& ctx, Arena& stash_arena, DecoderInput input, DecoderStash& stash,
               const Tensor& log_probabilities) const;
  // Adds to every gradient. unit_ready(u) is called when the gradients of unit u (see
  // ParameterSpec) are complete.
  void backward(const Context& ctx, DecoderInput input, DecoderStash& stash,
                const std::function<void(int)>& unit_ready) const;

  // Evaluation: log-probabilities only, nothing kept.
  void evaluate(const Context& ctx, DecoderInput input, const Tensor& log_probabilities) const;

  // Generation: rows of new tokens, whose keys and values go to the caches (one a layer, or none);
  // logits [R, V] fp32 of the rows `logit_rows`.
  void generate(const Context& ctx, DecoderInput input, const std::vector<KeyValueCache>& caches,
                const std::vector<int64_t>& logit_rows, const Tensor& logits) const;

  const ModelConfig& config() const { return model_; }
  int64_t num_layers() const { return int64_t(layers_.size()); }

 private:
  Tensor embed(const Context& ctx, Arena& arena, const DecoderInput& input) const;
  // Runs the layers without keeping anything; returns the final hidden rows, from the workspace.
  Tensor run_inference(const Context& ctx, DecoderInput& input,
                       const std::vector<KeyValueCache>& caches) const;
  void add_tables(DecoderInput& input) const;

  ModelConfig model_;
  int64_t max_positions_;
  Parameter* embedding_;
  Parameter* position_embedding_ = nullptr;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  std::unique_ptr<Head> head_;
  Tensor rope_cos_, rope_sin_;
};

// Parameters of a model, without making it.
int64_t count_parameters(const ModelConfig& model);

}  // namespace forja
