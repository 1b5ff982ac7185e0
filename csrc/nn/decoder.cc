// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/decoder.h"

#include <cstring>

#include "csrc/nn/hf_names.h"
#include "forja/base/philox.h"
#include "forja/nn/rope_tables.h"
#include "forja/ops/dropout.h"
#include "forja/ops/embedding.h"

namespace forja {
namespace {

Parameter* declare_table(ParameterStore& store, const ModelConfig& model, const std::string& name,
                         int64_t rows) {
  ParameterSpec spec;
  spec.name = name + ".weight";
  spec.shape = {rows, model.hidden_size};
  spec.init_std = float(model.initializer_range);
  spec.unit = 0;
  spec.segments = {{hf_model_name(model, name) + ".weight", rows, false}};
  return store.declare(spec);
}

constexpr uint64_t kEmbeddingSite = 0;

}  // namespace

Decoder::Decoder(ParameterStore& store, const ModelConfig& model, int64_t max_positions)
    : model_(model),
      max_positions_(max_positions),
      embedding_(declare_table(store, model, "embedding", model.vocab_size)) {
  if (!model.has_rope()) {
    FORJA_CHECK(max_positions <= model.max_position_embeddings,
                "{} positions wanted, the model has a table of {}", max_positions,
                model.max_position_embeddings);
    position_embedding_ =
        declare_table(store, model, "position_embedding", model.max_position_embeddings);
  }
  for (int64_t i = 0; i < model.num_hidden_layers; ++i) {
    layers_.push_back(std::make_unique<DecoderLayer>(store, model, i));
  }
  head_ = std::make_unique<Head>(store, model, model.tie_word_embeddings ? embedding_ : nullptr);
}

void Decoder::allocate_constants(Arena& arena) {
  if (!model_.has_rope()) return;
  rope_cos_ = allocate(arena, DType::f32, {max_positions_, model_.head_dim / 2});
  rope_sin_ = allocate(arena, DType::f32, {max_positions_, model_.head_dim / 2});
  fill_rope_tables(model_, rope_cos_, rope_sin_);
}

void Decoder::add_tables(DecoderInput& input) const {
  input.rows.rope_cos = rope_cos_;
  input.rows.rope_sin = rope_sin_;
}

Tensor Decoder::embed(const Context& ctx, Arena& arena, const DecoderInput& input) const {
  const Tensor x =
      allocate(arena, embedding_->weight.dtype, {input.tokens.size(0), model_.hidden_size});
  embedding_forward(ctx, input.tokens, embedding_->weight, input.rows.positions,
                    position_embedding_ ? position_embedding_->weight : Tensor{}, x);
  if (model_.dropout > 0.0 && input.rows.dropout_key != 0) {
    dropout(ctx, x, x, float(model_.dropout), mix_key(input.rows.dropout_key, kEmbeddingSite),
            input.rows.first_row * x.size(1));
  }
  return x;
}

void Decoder::forward(const Context& ctx, Arena& stash_arena, DecoderInput input,
                      DecoderStash& stash, const Tensor& log_probabilities) const {
  add_tables(input);
  stash.layers.assign(layers_.size(), {});
  Tensor residual = embed(ctx, stash_arena, input);
  {
    ArenaScope scope(*ctx.workspace);
    const Tensor branch =
        allocate(*ctx.workspace, residual.dtype, {residual.size(0), residual.size(1)});
    for (size_t i = 0; i < layers_.size(); ++i) {
      layers_[i]->forward(ctx, stash_arena, input.rows, residual, branch, i == 0, stash.layers[i]);
    }
    head_->normalize(ctx, stash_arena, residual, branch, stash.head);
  }
  stash.head.d_hidden = allocate(stash_arena, residual.dtype, {residual.size(0), residual.size(1)});
  head_->forward_backward(ctx, stash.head.hidden, input.targets, input.coefficients,
                          log_probabilities, stash.head.d_hidden);
}

void Decoder::backward(const Context& ctx, DecoderInput input, DecoderStash& stash,
                       const std::function<void(int)>& unit_ready) const {
  add_tables(input);
  ArenaScope scope(*ctx.workspace);
  const int64_t n = input.tokens.size(0);
  const DType dtype = embedding_->weight.dtype;
  Tensor d_out = allocate(*ctx.workspace, dtype, {n, model_.hidden_size});
  Tensor d_in = allocate(*ctx.workspace, dtype, {n, model_.hidden_size});
  head_->backward_input(ctx, stash.head, d_out);
  unit_ready(int(layers_.size()) + 1);
  for (size_t i = layers_.size(); i-- > 0;) {
    ArenaScope made(*ctx.workspace);
    layers_[i]->backward_input(ctx, *ctx.workspace, input.rows, stash.layers[i], d_out, d_in);
    layers_[i]->backward_weight(ctx, stash.layers[i]);
    std::swap(d_out, d_in);
    unit_ready(int(i) + 1);
  }
  if (model_.dropout > 0.0 && input.rows.dropout_key != 0) {
    dropout(ctx, d_out, d_out, float(model_.dropout),
            mix_key(input.rows.dropout_key, kEmbeddingSite), input.rows.first_row * d_out.size(1));
  }
  if (embedding_->gradient.defined())
    embedding_backward(ctx, d_out, input.tokens, embedding_->gradient);
  if (position_embedding_ && position_embedding_->gradient.defined()) {
    embedding_backward(ctx, d_out, input.rows.positions, position_embedding_->gradient);
  }
  unit_ready(0);
}

Tensor Decoder::run_inference(const Context& ctx, DecoderInput& input,
                              const std::vector<KeyValueCache>& caches) const {
  add_tables(input);
  input.rows.dropout_key = 0;
  Arena& arena = *ctx.workspace;
  Tensor residual = embed(ctx, arena, input);
  const Tensor branch = allocate(arena, residual.dtype, {residual.size(0), residual.size(1)});
  for (size_t i = 0; i < layers_.size(); ++i) {
    ArenaScope scope(arena);
    LayerStash stash;
    Tensor next = residual;
    layers_[i]->forward(ctx, arena, input.rows, next, branch, i == 0, stash,
                        caches.empty() ? nullptr : &caches[i]);
    // The new residual lies in the layer's scratch: keep it in the buffer that outlives it.
    if (!ctx.planning()) std::memcpy(residual.data, next.data, size_t(residual.num_bytes()));
  }
  Head::Stash stash;
  head_->normalize(ctx, arena, residual, branch, stash);
  return stash.hidden;
}

void Decoder::evaluate(const Context& ctx, DecoderInput input,
                       const Tensor& log_probabilities) const {
  ArenaScope scope(*ctx.workspace);
  const Tensor hidden = run_inference(ctx, input, {});
  head_->forward(ctx, hidden, input.targets, log_probabilities);
}

void Decoder::generate(const Context& ctx, DecoderInput input,
                       const std::vector<KeyValueCache>& caches,
                       const std::vector<int64_t>& logit_rows, const Tensor& logits) const {
  ArenaScope scope(*ctx.workspace);
  const Tensor hidden = run_inference(ctx, input, caches);
  const Tensor picked =
      allocate(*ctx.workspace, hidden.dtype, {int64_t(logit_rows.size()), hidden.size(1)});
  for (size_t i = 0; i < logit_rows.size() && !ctx.planning(); ++i) {
    const Tensor row = hidden.select(0, logit_rows[i]);
    std::memcpy(picked.select(0, int64_t(i)).data, row.data, size_t(row.num_bytes()));
  }
  head_->logits(ctx, picked, logits);
}

int64_t count_parameters(const ModelConfig& model) {
  ParameterStore store(DType::f32, StoreUse::inference);
  Decoder decoder(store, model, 1);
  return store.num_parameters();
}

}  // namespace forja
