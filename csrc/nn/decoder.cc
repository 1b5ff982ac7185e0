// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/decoder.h"

#include "csrc/nn/hf_names.h"
#include "forja/base/philox.h"
#include "forja/nn/rope_tables.h"
#include "forja/ops/dropout.h"
#include "forja/ops/elementwise.h"
#include "forja/ops/embedding.h"

namespace forja {
namespace {

ParameterSpec position_spec(const ModelConfig& model, int stage) {
  ParameterSpec spec;
  spec.name = "position_embedding.weight";
  spec.shape = {model.max_position_embeddings, model.hidden_size};
  spec.init_std = float(model.initializer_range);
  spec.stage = stage;
  spec.kind = UnitKind::replicated;
  spec.segments = {{hf_model_name(model, "position_embedding") + ".weight",
                    model.max_position_embeddings, false}};
  return spec;
}

// The table that an untied model's embedding and a tied model's head share a name with.
Parameter* declare_embedding(ParameterStore& store, const ModelConfig& model,
                             const StageRange& range) {
  ParameterSpec spec = vocabulary_spec(model, "embedding", range.stage);
  spec.tied = range.tied_elsewhere;
  spec.tied_copy = range.tied_elsewhere && !range.has_embedding;
  return store.declare(spec);
}

StageRange whole(const ModelConfig& model) { return {0, 0, model.num_hidden_layers, true, true}; }

constexpr uint64_t kEmbeddingSite = 0;

}  // namespace

Decoder::Decoder(ParameterStore& store, const ModelConfig& model, int64_t max_positions)
    : Decoder(store, model, max_positions, whole(model), TensorParallel(), ParallelConfig{}) {}

Decoder::Decoder(ParameterStore& store, const ModelConfig& model, int64_t max_positions,
                 const StageRange& range, const TensorParallel& tp, const ParallelConfig& parallel)
    : model_(model),
      max_positions_(max_positions),
      range_(range),
      tp_(tp),
      dtype_(store.compute_dtype()) {
  if (range.has_embedding) {
    embedding_ = declare_embedding(store, model, range);
    if (!model.has_rope()) {
      FORJA_CHECK(max_positions <= model.max_position_embeddings,
                  "{} positions wanted, the model has a table of {}", max_positions,
                  model.max_position_embeddings);
      position_embedding_ = store.declare(position_spec(model, range.stage));
    }
  }
  for (int64_t i = range.first_layer; i < range.last_layer; ++i) {
    layers_.push_back(std::make_unique<DecoderLayer>(store, model, tp, i, range.stage,
                                                     parallel.recompute_of_layer(i)));
  }
  if (!range.has_head) return;
  Parameter* tied = nullptr;
  if (model.tie_word_embeddings) {
    tied = store.find("embedding.weight");
    if (!tied) tied = declare_embedding(store, model, range);
  }
  head_ = std::make_unique<Head>(store, model, tp, range.stage, tied);
}

void Decoder::allocate_constants(const Context& ctx, Arena& arena) {
  if (!model_.has_rope()) return;
  rope_cos_ = allocate(arena, DType::f32, {max_positions_, model_.head_dim / 2});
  rope_sin_ = allocate(arena, DType::f32, {max_positions_, model_.head_dim / 2});
  fill_rope_tables(ctx, model_, rope_cos_, rope_sin_);
}

void Decoder::add_tables(DecoderInput& input) const {
  input.rows.rope_cos = rope_cos_;
  input.rows.rope_sin = rope_sin_;
}

// ---- Embedding

// The positions of this rank's rows, from the workspace.
Tensor Decoder::own_positions(const Context& ctx, const DecoderInput& input) const {
  const int64_t rows = input.tokens.size(0);
  if (tp_.size() == 1) return input.rows.positions;
  const Tensor own = allocate(*ctx.workspace, DType::i32, {tp_.own_rows(rows)});
  tp_.for_each_piece(rows, [&](int64_t begin, int64_t end, int64_t first_row) {
    const Tensor from = input.rows.positions.slice(0, first_row, first_row + end - begin);
    copy_bytes(ctx, own.slice(0, begin, end).data, from.data, from.num_bytes());
  });
  return own;
}

void Decoder::drop_embedding(const Context& ctx, const DecoderInput& input, const Tensor& x) const {
  if (!drops(input.rows)) return;
  const uint64_t key = mix_key(input.rows.dropout_key, kEmbeddingSite);
  tp_.for_each_piece(input.tokens.size(0), [&](int64_t begin, int64_t end, int64_t first_row) {
    const Tensor piece = x.slice(0, begin, end);
    dropout(ctx, piece, piece, float(model_.dropout), key,
            {(input.rows.first_row + first_row) * x.size(1)});
  });
}

// Each rank looks up the words it has; the sum over ranks has them all.
void Decoder::embed(const Context& ctx, const DecoderInput& input, const Tensor& x) const {
  ArenaScope scope(*ctx.workspace);
  const auto& ranges = embedding_->block.row_ranges;
  const int64_t first = ranges.empty() ? 0 : ranges[0].full,
                count = ranges.empty() ? 0 : ranges[0].count;
  const Tensor table = embedding_->weight.slice(0, 0, count);
  const Tensor all = tp_.all_rows(*ctx.workspace, x);
  tp_.reduce_scatter(ctx, all, x, "embedding", [&](int64_t begin, int64_t end) {
    embedding_forward(ctx, input.tokens.slice(0, begin, end), table, first, model_.vocab_size,
                      all.slice(0, begin, end));
  });
  if (position_embedding_)
    embedding_add(ctx, own_positions(ctx, input), position_embedding_->weight, x);
  drop_embedding(ctx, input, x);
}

// dx is overwritten.
void Decoder::embed_backward(const Context& ctx, const DecoderInput& input,
                             const Tensor& dx) const {
  ArenaScope scope(*ctx.workspace);
  drop_embedding(ctx, input, dx);
  const Tensor all = tp_.all_rows(*ctx.workspace, dx);
  tp_.gather(ctx, dx, all, "embedding gradient");
  if (embedding_->gradient.defined() && !embedding_->block.row_ranges.empty()) {
    const LocalBlock::Rows& words = embedding_->block.row_ranges[0];
    embedding_backward(ctx, all, input.tokens, words.full, model_.vocab_size,
                       embedding_->gradient.slice(0, 0, words.count));
  }
  if (position_embedding_ && position_embedding_->gradient.defined())
    embedding_backward(ctx, dx, own_positions(ctx, input), 0, position_embedding_->block.rows,
                       position_embedding_->gradient);
}

// ---- Training

void Decoder::allocate_transfers(Arena& arena, int64_t num_rows, DecoderStash& stash) const {
  const int64_t n = tp_.own_rows(num_rows), e = model_.hidden_size;
  stash = {};
  if (!range_.has_embedding) stash.d_input = allocate(arena, dtype_, {n, e});
  if (!range_.has_head) {
    stash.output = allocate(arena, dtype_, {n, e});
    stash.d_output = allocate(arena, dtype_, {n, e});
  }
}

void Decoder::forward(const Context& ctx, Arena& stash_arena, DecoderInput input,
                      DecoderStash& stash, const Tensor& log_probabilities) const {
  add_tables(input);
  stash.layers.assign(layers_.size(), {});
  const int64_t n = tp_.own_rows(input.tokens.size(0)), e = model_.hidden_size;
  Tensor residual = stash.input;
  if (range_.has_embedding) {
    residual = allocate(stash_arena, dtype_, {n, e});
    embed(ctx, input, residual);
  }
  ArenaScope scope(*ctx.workspace);
  const Tensor branch = allocate(*ctx.workspace, dtype_, {n, e});
  const Tensor kept_residual = allocate(*ctx.workspace, dtype_, {n, e});
  for (size_t i = 0; i < layers_.size(); ++i) {
    hooks_.use(layer_index(int64_t(i)), layer_index(int64_t(i) + 1));
    ArenaScope layer(*ctx.workspace);
    layers_[i]->forward(ctx, stash_arena, input.rows, residual, branch, i == 0, stash.layers[i]);
    if (layers_[i]->recompute() != Recompute::full) continue;
    convert(ctx, residual, kept_residual);  // it lies in the layer's scratch
    residual = kept_residual;
  }
  if (!range_.has_head) return add(ctx, residual, branch, stash.output);
  head_->normalize(ctx, stash_arena, residual, branch, stash.head);
  stash.head.d_hidden = allocate(stash_arena, dtype_, {n, e});
  if (input.weigh) {
    head_->forward(ctx, stash.head.hidden, input.targets, log_probabilities);
    input.weigh();
  }
  head_->forward_backward(ctx, stash.head.hidden, input.targets, input.coefficients,
                          log_probabilities, stash.head.d_hidden);
}

void Decoder::backward(const Context& ctx, Arena& made, DecoderInput input, DecoderStash& stash,
                       BackwardPart part) const {
  add_tables(input);
  if (part == BackwardPart::weight) return backward_weights(ctx, input.rows, stash);
  ArenaScope scope(*ctx.workspace);
  const int64_t n = tp_.own_rows(input.tokens.size(0)), e = model_.hidden_size;
  if (range_.has_head) {
    stash.d_output = allocate(made, dtype_, {n, e});
    head_->backward_input(ctx, stash.head, stash.d_output);
  }
  if (range_.has_embedding) stash.d_input = allocate(made, dtype_, {n, e});
  if (part == BackwardPart::both) {
    backward_layers(ctx, input.rows, stash);
  } else {
    backward_inputs(ctx, made, input.rows, stash);
  }
  if (range_.has_embedding && trains_embedding()) embed_backward(ctx, input, stash.d_input);
}

// Both gradients layer by layer, with two buffers for all gradients between layers.
void Decoder::backward_layers(const Context& ctx, const RowInfo& rows, DecoderStash& stash) const {
  const Tensor& like = stash.d_output;
  const Tensor buffers[2] = {allocate(*ctx.workspace, dtype_, {like.size(0), like.size(1)}),
                             allocate(*ctx.workspace, dtype_, {like.size(0), like.size(1)})};
  Tensor d_out = stash.d_output;
  for (size_t i = layers_.size(); i-- > 0;) {
    const int64_t layer = layer_index(int64_t(i));
    hooks_.use(layer, layer_index(int64_t(i) - 1));
    ArenaScope made(*ctx.workspace);
    const Tensor d_in = i == 0 ? stash.d_input : buffers[i % 2];
    layers_[i]->backward_input(ctx, *ctx.workspace, rows, stash.layers[i], d_out, d_in);
    hooks_.begin_gradient(layer);
    layers_[i]->backward_weight(ctx, rows, stash.layers[i]);
    hooks_.end_gradient(layer);
    d_out = d_in;
  }
}

void Decoder::backward_inputs(const Context& ctx, Arena& made, const RowInfo& rows,
                              DecoderStash& stash) const {
  const int64_t n = stash.d_output.size(0), e = model_.hidden_size;
  Tensor d_out = stash.d_output;
  for (size_t i = layers_.size(); i-- > 0;) {
    hooks_.use(layer_index(int64_t(i)), layer_index(int64_t(i) - 1));
    const Tensor d_in = i == 0 ? stash.d_input : allocate(made, dtype_, {n, e});
    layers_[i]->backward_input(ctx, made, rows, stash.layers[i], d_out, d_in);
    d_out = d_in;
  }
}

void Decoder::backward_weights(const Context& ctx, const RowInfo& rows,
                               const DecoderStash& stash) const {
  for (size_t i = layers_.size(); i-- > 0;) {
    const int64_t layer = layer_index(int64_t(i));
    hooks_.begin_gradient(layer);
    layers_[i]->backward_weight(ctx, rows, stash.layers[i]);
    hooks_.end_gradient(layer);
  }
}

// ---- Inference

Decoder::Hidden Decoder::run_inference(const Context& ctx, const DecoderInput& input,
                                       const Tensor& x_in,
                                       const std::vector<KeyValueCache>& caches) const {
  Arena& arena = *ctx.workspace;
  const int64_t n = tp_.own_rows(input.tokens.size(0)), e = model_.hidden_size;
  const Tensor residual = allocate(arena, dtype_, {n, e}), branch = allocate(arena, dtype_, {n, e});
  if (range_.has_embedding) {
    embed(ctx, input, residual);
  } else {
    convert(ctx, x_in, residual);
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    hooks_.use(layer_index(int64_t(i)), layer_index(int64_t(i) + 1));
    ArenaScope scope(arena);
    LayerStash stash;
    Tensor next = residual;
    layers_[i]->forward(ctx, arena, input.rows, next, branch, i == 0, stash,
                        caches.empty() ? nullptr : &caches[i]);
    // The new residual lies in the layer's scratch: keep it in the buffer that outlives it.
    convert(ctx, next, residual);
  }
  return {residual, branch};
}

void Decoder::evaluate(const Context& ctx, DecoderInput input, const Tensor& x_in,
                       const Tensor& x_out, const Tensor& log_probabilities,
                       const Tensor& margins) const {
  ArenaScope scope(*ctx.workspace);
  add_tables(input);
  input.rows.dropout_key = 0;
  const Hidden hidden = run_inference(ctx, input, x_in, {});
  if (!range_.has_head) return add(ctx, hidden.residual, hidden.branch, x_out);
  Head::Stash stash;
  head_->normalize(ctx, *ctx.workspace, hidden.residual, hidden.branch, stash);
  head_->forward(ctx, stash.hidden, input.targets, log_probabilities, margins);
}

Tensor Decoder::hidden_of_rows(const Context& ctx, DecoderInput input,
                               const std::vector<KeyValueCache>& caches,
                               const std::vector<int64_t>& rows) const {
  add_tables(input);
  input.rows.dropout_key = 0;
  const Hidden last = run_inference(ctx, input, {}, caches);
  Head::Stash stash;
  head_->normalize(ctx, *ctx.workspace, last.residual, last.branch, stash);
  const Tensor picked =
      allocate(*ctx.workspace, dtype_, {int64_t(rows.size()), model_.hidden_size});
  for (size_t i = 0; i < rows.size(); ++i) {
    const Tensor row = stash.hidden.select(0, rows[i]);
    copy_bytes(ctx, picked.select(0, int64_t(i)).data, row.data, row.num_bytes());
  }
  return picked;
}

void Decoder::generate(const Context& ctx, DecoderInput input,
                       const std::vector<KeyValueCache>& caches,
                       const std::vector<int64_t>& logit_rows, const Tensor& logits) const {
  ArenaScope scope(*ctx.workspace);
  head_->logits(ctx, hidden_of_rows(ctx, input, caches, logit_rows), logits);
}

void Decoder::score(const Context& ctx, DecoderInput input, const std::vector<int64_t>& scored_rows,
                    const Tensor& targets, const Tensor& log_probabilities,
                    const Tensor& margins) const {
  ArenaScope scope(*ctx.workspace);
  head_->forward(ctx, hidden_of_rows(ctx, input, {}, scored_rows), targets, log_probabilities,
                 margins);
}

int64_t count_parameters(const ModelConfig& model) {
  ParameterStore store(DType::f32, StoreUse::inference);
  Decoder decoder(store, model, 1);
  return store.num_parameters();
}

}  // namespace forja
