// SPDX-License-Identifier: Apache-2.0
// The decoder, or the consecutive part of it that is one stage of a pipeline: embedding, layers,
// head.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "forja/nn/decoder_layer.h"
#include "forja/nn/head.h"
#include "forja/nn/model_config.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

// Legend: N rows (tokens of a micro-batch), n rows of this tensor-parallel rank (N / tp), S
// sequences, E hidden size, V vocabulary.
struct DecoderInput {
  Tensor tokens;        // [N] int32
  Tensor targets;       // [N] int32, negative: none
  Tensor coefficients;  // [N] fp32: the loss is -sum coefficient log_probability; read in training
                        // only
  RowInfo rows;         // rope tables are filled in by the decoder
  // Training, in the last stage: called when the log-probabilities are enqueued, to enqueue the
  // coefficients that follow from them; empty: they are set beforehand.
  std::function<void()> weigh = {};
};

// Which part of the model.
struct StageRange {
  int stage = 0;
  int64_t first_layer = 0, last_layer = 0;  // [first, last)
  bool has_embedding = true, has_head = true;
  bool tied_elsewhere =
      false;  // the embedding is the head of a stage on another rank, or it is here
};

// One micro-batch between its forward and its backward pass. What passes between stages is x [n,
// E].
struct DecoderStash {
  Tensor input, output;      // of the stage; undefined at the ends of the model
  Tensor d_output, d_input;  // their gradients
  std::vector<LayerStash> layers;
  Head::Stash head;
};

// Called around the use of a layer (its index in the whole model); `next` is the layer to be used
// after it, -1 for none.
struct LayerHooks {
  std::function<void(int64_t layer, int64_t next)> use = [](int64_t, int64_t) {};
  std::function<void(int64_t layer)> begin_gradient = [](int64_t) {};
  std::function<void(int64_t layer)> end_gradient = [](int64_t) {};
};

// How much of a backward pass.
enum class BackwardPart { both, input, weight };

class Decoder {
 public:
  // The whole model, alone.
  Decoder(ParameterStore& store, const ModelConfig& model, int64_t max_positions);
  // Declares every parameter of the stage in `store`. Positions up to `max_positions` can be used.
  // Stages of a rank share a store; the last one finds the embedding there when it is tied.
  Decoder(ParameterStore& store, const ModelConfig& model, int64_t max_positions,
          const StageRange& range, const TensorParallel& tp, const ParallelConfig& parallel);

  // Tables of rotary positions.
  void allocate_constants(const Context& ctx, Arena& arena);
  void set_hooks(LayerHooks hooks) { hooks_ = std::move(hooks); }

  // The buffers of a micro-batch that transfers use, from the arena of its stash; they stay the
  // same until the stash is used for another micro-batch. Not the input: it stays where it was
  // received, or where the stage before on this rank made it.
  void allocate_transfers(Arena& stash_arena, int64_t num_rows, DecoderStash& stash) const;
  // Training: the stage's output goes to stash.output; log_probabilities [N] fp32 of the last
  // stage, whose head's gradient is made on the way. What backward needs comes from `stash_arena`.
  void forward(const Context& ctx, Arena& stash_arena, DecoderInput input, DecoderStash& stash,
               const Tensor& log_probabilities) const;
  // From stash.d_output to stash.d_input; adds to every gradient. `made`: for what the weights'
  // gradients need from those of the inputs, and what is computed again; the workspace for `both`.
  void backward(const Context& ctx, Arena& made, DecoderInput input, DecoderStash& stash,
                BackwardPart part) const;

  // Evaluation: nothing is kept. x_in, x_out [n, E] as between stages (undefined at the ends);
  // log_probabilities and margins as Head::forward gives them.
  void evaluate(const Context& ctx, DecoderInput input, const Tensor& x_in, const Tensor& x_out,
                const Tensor& log_probabilities, const Tensor& margins = {}) const;

  // Generation: rows of new tokens, whose keys and values go to the caches (one a layer, or none);
  // logits [R, V] fp32 of the rows `logit_rows`.
  void generate(const Context& ctx, DecoderInput input, const std::vector<KeyValueCache>& caches,
                const std::vector<int64_t>& logit_rows, const Tensor& logits) const;
  // Scoring: log_probabilities and margins [R] fp32 (see Head::forward) of the targets [R] int32 of
  // the rows `scored_rows`, in which a row may be several times.
  void score(const Context& ctx, DecoderInput input, const std::vector<int64_t>& scored_rows,
             const Tensor& targets, const Tensor& log_probabilities, const Tensor& margins) const;

  const ModelConfig& config() const { return model_; }
  const StageRange& range() const { return range_; }
  int64_t num_layers() const { return int64_t(layers_.size()); }

 private:
  bool trains_embedding() const {
    return embedding_->gradient.defined() ||
           (position_embedding_ && position_embedding_->gradient.defined());
  }
  bool drops(const RowInfo& rows) const { return model_.dropout > 0.0 && rows.dropout_key != 0; }
  // A layer's place in the stage to that in the model, or -1 beyond the ends.
  int64_t layer_index(int64_t i) const {
    return i >= 0 && i < num_layers() ? range_.first_layer + i : -1;
  }
  void embed(const Context& ctx, const DecoderInput& input, const Tensor& x) const;
  void embed_backward(const Context& ctx, const DecoderInput& input, const Tensor& dx) const;
  void drop_embedding(const Context& ctx, const DecoderInput& input, const Tensor& x) const;
  Tensor own_positions(const Context& ctx, const DecoderInput& input) const;
  void backward_layers(const Context& ctx, const RowInfo& rows, DecoderStash& stash) const;
  void backward_inputs(const Context& ctx, Arena& made, const RowInfo& rows,
                       DecoderStash& stash) const;
  void backward_weights(const Context& ctx, const RowInfo& rows, const DecoderStash& stash) const;
  // Runs the layers without keeping anything; returns x = residual + branch, from the workspace.
  struct Hidden {
    Tensor residual, branch;
  };
  Hidden run_inference(const Context& ctx, const DecoderInput& input, const Tensor& x_in,
                       const std::vector<KeyValueCache>& caches) const;
  // After the final norm, of some rows: [R, E], from the workspace.
  Tensor hidden_of_rows(const Context& ctx, DecoderInput input,
                        const std::vector<KeyValueCache>& caches,
                        const std::vector<int64_t>& rows) const;
  void add_tables(DecoderInput& input) const;

  ModelConfig model_;
  int64_t max_positions_;
  StageRange range_;
  TensorParallel tp_;
  DType dtype_;
  Parameter* embedding_ = nullptr;
  Parameter* position_embedding_ = nullptr;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  std::unique_ptr<Head> head_;
  Tensor rope_cos_, rope_sin_;
  LayerHooks hooks_;
};

// Parameters of a model, without making it.
int64_t count_parameters(const ModelConfig& model);

}  // namespace forja
