// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/decoder_layer.h"

#include <cmath>
#include <cstring>

#include "csrc/nn/hf_names.h"
#include "forja/base/philox.h"
#include "forja/ops/activation.h"
#include "forja/ops/dropout.h"
#include "forja/ops/rope.h"

namespace forja {
namespace {

// Outputs of blocks start smaller the deeper the model, so that the residual stream does not grow
// with depth. Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019,
// section 2.3.
float output_std(const ModelConfig& m) {
  return float(m.initializer_range / std::sqrt(2.0 * double(m.num_hidden_layers)));
}

Linear::Spec linear_spec(const ModelConfig& m, int64_t layer, const char* part, int64_t inputs,
                         int64_t outputs, bool bias, float std) {
  return {layer_name(layer) + "." + part,      inputs, outputs, bias, std, int(layer) + 1,
          hf_segments(m, layer, part, outputs)};
}

}  // namespace

StashEntries LayerStash::entries() const {
  StashEntries out;
  attention_norm.list(out);
  mlp_norm.list(out);
  out.push_back({"attention input", attention_input, StashUse::weight_gradient});
  out.push_back({"qkv", qkv, StashUse::input_gradient});
  if (qk.defined()) {
    out.push_back({"normalised q and k", qk, StashUse::input_gradient});
    out.push_back({"q rstd", q_rstd, StashUse::input_gradient});
    out.push_back({"k rstd", k_rstd, StashUse::input_gradient});
  }
  out.push_back({"attention output", attention_output, StashUse::both_gradients});
  out.push_back({"log-sum-exp", lse, StashUse::input_gradient});
  out.push_back({"mlp input", mlp_input, StashUse::weight_gradient});
  out.push_back({"mlp up", up, StashUse::input_gradient});
  out.push_back({"mlp activation", activation, StashUse::weight_gradient});
  return out;
}

DecoderLayer::DecoderLayer(ParameterStore& store, const ModelConfig& model, int64_t index)
    : model_(model),
      index_(index),
      attention_norm_(store, model, layer_name(index) + ".attention_norm",
                      hf_layer_name(model, index, "attention_norm"), model.hidden_size,
                      int(index) + 1),
      qkv_(store, linear_spec(model, index, "attention.qkv", model.hidden_size,
                              model.query_size() + 2 * model.key_value_size(), model.attention_bias,
                              float(model.initializer_range))),
      output_(store,
              linear_spec(model, index, "attention.output", model.query_size(), model.hidden_size,
                          model.attention_output_bias, output_std(model))),
      mlp_norm_(store, model, layer_name(index) + ".mlp_norm",
                hf_layer_name(model, index, "mlp_norm"), model.hidden_size, int(index) + 1),
      up_(store, linear_spec(model, index, "mlp.up", model.hidden_size,
                             (model.is_swiglu() ? 2 : 1) * model.intermediate_size, model.mlp_bias,
                             float(model.initializer_range))),
      down_(store, linear_spec(model, index, "mlp.down", model.intermediate_size, model.hidden_size,
                               model.mlp_bias, output_std(model))) {
  if (!model.qk_norm) return;
  const std::string name = layer_name(index) + ".attention.";
  q_norm_.emplace(store, model, name + "q_norm", hf_layer_name(model, index, "attention.q_norm"),
                  model.head_dim, int(index) + 1);
  k_norm_.emplace(store, model, name + "k_norm", hf_layer_name(model, index, "attention.k_norm"),
                  model.head_dim, int(index) + 1);
}

DecoderLayer::Heads DecoderLayer::split_heads(const Tensor& qkv, const Tensor& qk) const {
  auto heads = [this](const Tensor& t, int64_t begin, int64_t count) {
    Tensor part = t.slice(1, begin * model_.head_dim, (begin + count) * model_.head_dim);
    part.rank = 3;
    part.sizes = {t.size(0), count, model_.head_dim};
    part.strides = {t.stride(0), model_.head_dim, 1};
    return part;
  };
  const int64_t h = model_.num_attention_heads, g = model_.num_key_value_heads;
  const Tensor& source = qk.defined() ? qk : qkv;
  return {heads(source, 0, h), heads(source, h, g), heads(qkv, h + g, g)};
}

AttentionOptions DecoderLayer::attention_options() const {
  return {true, model_.window_of_layer(index_), float(1.0 / std::sqrt(double(model_.head_dim)))};
}

void DecoderLayer::drop(const Context& ctx, const RowInfo& rows, const Tensor& x, const Tensor& y,
                        int site) const {
  dropout(ctx, x, y, float(model_.dropout),
          mix_key(mix_key(rows.dropout_key, uint64_t(index_) + 1), uint64_t(site)),
          rows.first_row * x.size(1));
}

void DecoderLayer::forward(const Context& ctx, Arena& arena, const RowInfo& rows, Tensor& residual,
                           const Tensor& branch, bool branch_is_empty, LayerStash& stash,
                           const KeyValueCache* cache) const {
  const int64_t n = residual.size(0);
  const DType dtype = residual.dtype;
  const bool drops = model_.dropout > 0.0 && rows.dropout_key != 0;

  stash.attention_input = allocate(arena, dtype, {n, model_.hidden_size});
  if (branch_is_empty) {
    attention_norm_.forward(ctx, arena, residual, stash.attention_input, stash.attention_norm);
  } else {
    attention_norm_.add_forward(ctx, arena, branch, residual, stash.attention_input,
                                stash.attention_norm);
  }
  attend(ctx, arena, rows, stash, cache);
  output_.forward(ctx, stash.attention_output, branch);
  if (drops) drop(ctx, rows, branch, branch, 0);

  stash.mlp_input = allocate(arena, dtype, {n, model_.hidden_size});
  mlp_norm_.add_forward(ctx, arena, branch, stash.attention_norm.x, stash.mlp_input,
                        stash.mlp_norm);
  const int64_t f = model_.intermediate_size;
  stash.up = allocate(arena, dtype, {n, model_.is_swiglu() ? 2 * f : f});
  stash.activation = allocate(arena, dtype, {n, f});
  up_.forward(ctx, stash.mlp_input, stash.up);
  if (model_.is_swiglu()) {
    swiglu_forward(ctx, stash.up, stash.activation);
  } else {
    gelu_forward(ctx, stash.up, stash.activation,
                 model_.mlp == "gelu_erf" ? GeluKind::erf : GeluKind::tanh);
  }
  down_.forward(ctx, stash.activation, branch);
  if (drops) drop(ctx, rows, branch, branch, 1);
  residual = stash.mlp_norm.x;
}

void DecoderLayer::attend(const Context& ctx, Arena& arena, const RowInfo& rows, LayerStash& stash,
                          const KeyValueCache* cache) const {
  const int64_t n = stash.attention_input.size(0), d = model_.head_dim;
  const int64_t h = model_.num_attention_heads, g = model_.num_key_value_heads;
  const DType dtype = stash.attention_input.dtype;
  stash.qkv = allocate(arena, dtype, {n, (h + 2 * g) * d});
  qkv_.forward(ctx, stash.attention_input, stash.qkv);
  if (q_norm_) {
    stash.qk = allocate(arena, dtype, {n, (h + g) * d});
    stash.q_rstd = allocate(arena, DType::f32, {n * h});
    stash.k_rstd = allocate(arena, DType::f32, {n * g});
    const Heads raw = split_heads(stash.qkv, {}), normalised = split_heads(stash.qkv, stash.qk);
    q_norm_->forward_heads(ctx, raw.q, normalised.q, stash.q_rstd);
    k_norm_->forward_heads(ctx, raw.k, normalised.k, stash.k_rstd);
  }
  Heads heads = split_heads(stash.qkv, stash.qk);
  if (rows.rope_cos.defined()) {
    rope(ctx, heads.q, rows.positions, rows.rope_cos, rows.rope_sin, RopeDirection::forward);
    rope(ctx, heads.k, rows.positions, rows.rope_cos, rows.rope_sin, RopeDirection::forward);
  }
  if (cache && !ctx.planning()) {
    const size_t bytes = size_t(g * d * dtype_bytes(dtype));
    for (int64_t r = 0; r < n; ++r) {
      std::memcpy(cache->keys.select(0, cache->rows[r]).data, heads.k.select(0, r).data, bytes);
      std::memcpy(cache->values.select(0, cache->rows[r]).data, heads.v.select(0, r).data, bytes);
    }
  }
  stash.attention_output = allocate(arena, dtype, {n, h * d});
  stash.lse = allocate(arena, DType::f32, {h, n});
  attention_forward(ctx, heads.q, cache ? cache->keys : heads.k, cache ? cache->values : heads.v,
                    rows.sequences, stash.attention_output.view({n, h, d}), stash.lse,
                    attention_options());
}

void DecoderLayer::backward_input(const Context& ctx, Arena& made, const RowInfo& rows,
                                  LayerStash& stash, const Tensor& d_out,
                                  const Tensor& d_in) const {
  const int64_t n = d_out.size(0), e = model_.hidden_size, f = model_.intermediate_size;
  const DType dtype = d_out.dtype;
  const bool drops = model_.dropout > 0.0 && rows.dropout_key != 0;

  stash.d_mlp_output = d_out;
  if (drops) {
    stash.d_mlp_output = allocate(made, dtype, {n, e});
    drop(ctx, rows, d_out, stash.d_mlp_output, 1);
  }
  // The made arena may be the workspace: everything made is allocated outside of its scopes.
  // For gelu the gradient of the activation becomes that of `up` in place.
  stash.d_up = allocate(made, dtype, {n, stash.up.size(1)});
  const Tensor d_mid = allocate(made, dtype, {n, e});
  {
    ArenaScope scope(*ctx.workspace);
    if (model_.is_swiglu()) {
      const Tensor d_activation = allocate(*ctx.workspace, dtype, {n, f});
      down_.backward_input(ctx, stash.d_mlp_output, d_activation);
      swiglu_backward(ctx, d_activation, stash.up, stash.d_up);
    } else {
      down_.backward_input(ctx, stash.d_mlp_output, stash.d_up);
      gelu_backward(ctx, stash.d_up, stash.up, stash.d_up,
                    model_.mlp == "gelu_erf" ? GeluKind::erf : GeluKind::tanh);
    }
    up_.backward_input(ctx, stash.d_up, d_mid);
    mlp_norm_.backward(ctx, stash.mlp_norm, d_mid, d_out, d_mid);
  }
  stash.d_attention_branch = d_mid;
  if (drops) {
    stash.d_attention_branch = allocate(made, dtype, {n, e});
    drop(ctx, rows, d_mid, stash.d_attention_branch, 0);
  }
  stash.d_qkv = allocate(made, dtype, {n, stash.qkv.size(1)});
  {
    ArenaScope scope(*ctx.workspace);
    const Tensor d_attention = allocate(*ctx.workspace, dtype, {n, model_.query_size()});
    output_.backward_input(ctx, stash.d_attention_branch, d_attention);
    attend_backward(ctx, rows, stash, d_attention);
  }
  qkv_.backward_input(ctx, stash.d_qkv, d_in);
  attention_norm_.backward(ctx, stash.attention_norm, d_in, d_mid, d_in);
}

void DecoderLayer::attend_backward(const Context& ctx, const RowInfo& rows, const LayerStash& stash,
                                   const Tensor& d_attention) const {
  const int64_t n = d_attention.size(0), h = model_.num_attention_heads, d = model_.head_dim;
  const Heads heads = split_heads(stash.qkv, stash.qk), gradients = split_heads(stash.d_qkv, {});
  attention_backward(ctx, d_attention.view({n, h, d}), heads.q, heads.k, heads.v,
                     stash.attention_output.view({n, h, d}), stash.lse, rows.sequences, gradients.q,
                     gradients.k, gradients.v, attention_options());
  if (rows.rope_cos.defined()) {
    rope(ctx, gradients.q, rows.positions, rows.rope_cos, rows.rope_sin, RopeDirection::backward);
    rope(ctx, gradients.k, rows.positions, rows.rope_cos, rows.rope_sin, RopeDirection::backward);
  }
  if (!q_norm_) return;
  const Heads raw = split_heads(stash.qkv, {});
  q_norm_->backward_heads(ctx, gradients.q, raw.q, stash.q_rstd, gradients.q);
  k_norm_->backward_heads(ctx, gradients.k, raw.k, stash.k_rstd, gradients.k);
}

void DecoderLayer::backward_weight(const Context& ctx, const LayerStash& stash) const {
  down_.backward_weight(ctx, stash.d_mlp_output, stash.activation);
  up_.backward_weight(ctx, stash.d_up, stash.mlp_input);
  output_.backward_weight(ctx, stash.d_attention_branch, stash.attention_output);
  qkv_.backward_weight(ctx, stash.d_qkv, stash.attention_input);
}

}  // namespace forja
