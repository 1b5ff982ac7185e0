// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/decoder_layer.h"

#include <cmath>

#include "csrc/nn/hf_names.h"
#include "forja/base/philox.h"
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

Linear::Spec linear_spec(const ModelConfig& m, int64_t layer, int stage, const char* part,
                         int64_t inputs, int64_t outputs, bool bias, float std) {
  Linear::Spec spec{layer_name(layer) + "." + part,
                    inputs,
                    outputs,
                    bias,
                    std,
                    stage,
                    int(layer),
                    TensorPlacement::columns,
                    {},
                    hf_segments(m, layer, part, outputs),
                    m.lora};
  return spec;
}

Linear::Spec column_parallel(Linear::Spec spec, std::vector<RowGroup> groups) {
  spec.placement = TensorPlacement::rows;
  spec.row_groups = std::move(groups);
  return spec;
}

Linear::Spec qkv_spec(const ModelConfig& m, int64_t layer, int stage) {
  const int64_t q = m.query_size(), kv = m.key_value_size();
  const RowGroup key_value{kv, m.num_key_value_heads};
  return column_parallel(linear_spec(m, layer, stage, "attention.qkv", m.hidden_size, q + 2 * kv,
                                     m.attention_bias, float(m.initializer_range)),
                         {{q, m.num_attention_heads}, key_value, key_value});
}

Linear::Spec up_spec(const ModelConfig& m, int64_t layer, int stage) {
  const int64_t f = m.intermediate_size, parts = m.is_swiglu() ? 2 : 1;
  return column_parallel(linear_spec(m, layer, stage, "mlp.up", m.hidden_size, parts * f,
                                     m.mlp_bias, float(m.initializer_range)),
                         std::vector<RowGroup>(size_t(parts), RowGroup{f, f}));
}

Tensor rows_of(const Tensor& t, int64_t begin, int64_t end) { return t.slice(0, begin, end); }

}  // namespace

DecoderLayer::DecoderLayer(ParameterStore& store, const ModelConfig& model,
                           const TensorParallel& tp, int64_t index, int stage, Recompute recompute)
    : model_(model),
      tp_(tp),
      index_(index),
      recompute_(recompute),
      heads_(model.num_attention_heads / tp.size()),
      key_value_heads_(std::max<int64_t>(1, model.num_key_value_heads / tp.size())),
      inner_(model.intermediate_size / tp.size()),
      attention_norm_(store, model, layer_name(index) + ".attention_norm",
                      hf_layer_name(model, index, "attention_norm"), model.hidden_size, stage),
      qkv_(store, qkv_spec(model, index, stage)),
      output_(store,
              linear_spec(model, index, stage, "attention.output", model.query_size(),
                          model.hidden_size, model.attention_output_bias, output_std(model))),
      mlp_norm_(store, model, layer_name(index) + ".mlp_norm",
                hf_layer_name(model, index, "mlp_norm"), model.hidden_size, stage),
      up_(store, up_spec(model, index, stage)),
      down_(store, linear_spec(model, index, stage, "mlp.down", model.intermediate_size,
                               model.hidden_size, model.mlp_bias, output_std(model))) {
  if (!model.qk_norm) return;
  const std::string name = layer_name(index) + ".attention.";
  q_norm_.emplace(store, model, name + "q_norm", hf_layer_name(model, index, "attention.q_norm"),
                  model.head_dim, stage);
  k_norm_.emplace(store, model, name + "k_norm", hf_layer_name(model, index, "attention.k_norm"),
                  model.head_dim, stage);
}

DecoderLayer::Heads DecoderLayer::split_heads(const Tensor& qkv, const Tensor& qk) const {
  auto heads = [this](const Tensor& t, int64_t begin, int64_t count) {
    Tensor part = t.slice(1, begin * model_.head_dim, (begin + count) * model_.head_dim);
    part.rank = 3;
    part.sizes = {t.size(0), count, model_.head_dim};
    part.strides = {t.stride(0), model_.head_dim, 1};
    return part;
  };
  const int64_t h = heads_, g = key_value_heads_;
  const Tensor& source = qk.defined() ? qk : qkv;
  return {heads(source, 0, h), heads(source, h, g), heads(qkv, h + g, g)};
}

AttentionOptions DecoderLayer::attention_options() const {
  return {true, model_.window_of_layer(index_), float(1.0 / std::sqrt(double(model_.head_dim)))};
}

uint64_t DecoderLayer::key_of(const RowInfo& rows, Site site) const {
  return mix_key(mix_key(rows.dropout_key, uint64_t(index_) + 1), uint64_t(site));
}

// Of the rows from `begin` on.
AdapterRows DecoderLayer::adapter_rows(const RowInfo& rows, Site site, int64_t begin) const {
  return {rows.adapters, rows.dropout_key == 0 ? 0 : key_of(rows, site), rows.first_row + begin};
}

void DecoderLayer::drop(const Context& ctx, const RowInfo& rows, const Tensor& x, const Tensor& y,
                        Site site) const {
  const uint64_t key = key_of(rows, site);
  tp_.for_each_piece(x.size(0) * tp_.size(), [&](int64_t begin, int64_t end, int64_t first_row) {
    dropout(ctx, rows_of(x, begin, end), rows_of(y, begin, end), float(model_.dropout), key,
            {(rows.first_row + first_row) * x.size(1)});
  });
}

// ---- Forward

void DecoderLayer::forward(const Context& ctx, Arena& stash_arena, const RowInfo& rows,
                           Tensor& residual, const Tensor& branch, bool branch_is_empty,
                           LayerStash& stash, const KeyValueCache* cache) const {
  const int64_t n = residual.size(0);
  const DType dtype = residual.dtype;
  Arena& cheap = recompute_ == Recompute::none ? stash_arena : *ctx.workspace;
  Arena& rest = recompute_ == Recompute::full ? *ctx.workspace : stash_arena;
  if (branch_is_empty) {
    stash.attention_norm.x = residual;
  } else {
    stash.attention_norm.x = allocate(stash_arena, dtype, {n, model_.hidden_size});
  }
  stash.attention_input = allocate(cheap, dtype, {n, model_.hidden_size});
  if (branch_is_empty) {
    attention_norm_.forward(ctx, rest, residual, stash.attention_input, stash.attention_norm);
  } else {
    attention_norm_.add_forward(ctx, rest, branch, residual, stash.attention_input,
                                stash.attention_norm);
  }
  project_heads(ctx, rest, rows, stash);
  attend(ctx, cheap, rows, stash, cache);
  attention_branch(ctx, rows, stash, branch);
  stash.mlp_norm.x = allocate(rest, dtype, {n, model_.hidden_size});
  stash.mlp_input = allocate(cheap, dtype, {n, model_.hidden_size});
  mlp_norm_.add_forward(ctx, rest, branch, stash.attention_norm.x, stash.mlp_input, stash.mlp_norm);
  expand(ctx, rest, cheap, rows, stash);
  {
    ArenaScope scope(*ctx.workspace);
    const Tensor all = tp_.all_rows(*ctx.workspace, branch);
    tp_.reduce_scatter(ctx, all, branch, "mlp output", [&](int64_t begin, int64_t end) {
      down_.forward(ctx, rows_of(stash.activation, begin, end), rows_of(all, begin, end),
                    adapter_rows(rows, Site::down, begin));
    });
  }
  if (drops(rows)) drop(ctx, rows, branch, branch, Site::mlp_branch);
  residual = stash.mlp_norm.x;
}

// qkv = W h, normalised and rotated.
void DecoderLayer::project_heads(const Context& ctx, Arena& arena, const RowInfo& rows,
                                 LayerStash& stash) const {
  const int64_t total = stash.attention_input.size(0) * tp_.size(), d = model_.head_dim;
  const int64_t h = heads_, g = key_value_heads_;
  const DType dtype = stash.attention_input.dtype;
  stash.qkv = allocate(arena, dtype, {total, (h + 2 * g) * d});
  if (q_norm_) {
    stash.qk = allocate(arena, dtype, {total, (h + g) * d});
    stash.q_rstd = allocate(arena, DType::f32, {total * h});
    stash.k_rstd = allocate(arena, DType::f32, {total * g});
  }
  {
    ArenaScope scope(*ctx.workspace);
    const Tensor all = tp_.all_rows(*ctx.workspace, stash.attention_input);
    tp_.gather(ctx, stash.attention_input, all, "attention input", [&](int64_t begin, int64_t end) {
      qkv_.forward(ctx, rows_of(all, begin, end), rows_of(stash.qkv, begin, end),
                   adapter_rows(rows, Site::qkv, begin));
    });
  }
  if (q_norm_) {
    const Heads raw = split_heads(stash.qkv, {}), normalised = split_heads(stash.qkv, stash.qk);
    q_norm_->forward_heads(ctx, raw.q, normalised.q, stash.q_rstd);
    k_norm_->forward_heads(ctx, raw.k, normalised.k, stash.k_rstd);
  }
  const Heads heads = split_heads(stash.qkv, stash.qk);
  if (rows.rope_cos.defined()) {
    rope(ctx, heads.q, rows.positions, rows.rope_cos, rows.rope_sin, RopeDirection::forward);
    rope(ctx, heads.k, rows.positions, rows.rope_cos, rows.rope_sin, RopeDirection::forward);
  }
}

void DecoderLayer::attend(const Context& ctx, Arena& arena, const RowInfo& rows, LayerStash& stash,
                          const KeyValueCache* cache) const {
  const int64_t total = stash.qkv.size(0), d = model_.head_dim, h = heads_;
  const DType dtype = stash.qkv.dtype;
  const Heads heads = split_heads(stash.qkv, stash.qk);
  if (cache && !ctx.planning()) {
    const int64_t bytes = key_value_heads_ * d * dtype_bytes(dtype);
    for (int64_t r = 0; r < total; ++r) {
      const int64_t row = cache->rows[r];
      copy_bytes(ctx, cache->keys.select(0, row).data, heads.k.select(0, r).data, bytes);
      copy_bytes(ctx, cache->values.select(0, row).data, heads.v.select(0, r).data, bytes);
    }
  }
  stash.attention_output = allocate(arena, dtype, {total, h * d});
  stash.lse = allocate(arena, DType::f32, {h, total});
  attention_forward(ctx, heads.q, cache ? cache->keys : heads.k, cache ? cache->values : heads.v,
                    rows.sequences, stash.attention_output.view({total, h, d}), stash.lse,
                    attention_options());
}

void DecoderLayer::attention_branch(const Context& ctx, const RowInfo& rows,
                                    const LayerStash& stash, const Tensor& branch) const {
  {
    ArenaScope scope(*ctx.workspace);
    const Tensor all = tp_.all_rows(*ctx.workspace, branch);
    tp_.reduce_scatter(ctx, all, branch, "attention output", [&](int64_t begin, int64_t end) {
      output_.forward(ctx, rows_of(stash.attention_output, begin, end), rows_of(all, begin, end),
                      adapter_rows(rows, Site::output, begin));
    });
  }
  if (drops(rows)) drop(ctx, rows, branch, branch, Site::attention_branch);
}

// up = W h and its activation.
void DecoderLayer::expand(const Context& ctx, Arena& arena, Arena& activation_arena,
                          const RowInfo& rows, LayerStash& stash) const {
  const int64_t total = stash.mlp_input.size(0) * tp_.size();
  const DType dtype = stash.mlp_input.dtype;
  stash.up = allocate(arena, dtype, {total, model_.is_swiglu() ? 2 * inner_ : inner_});
  stash.activation = allocate(activation_arena, dtype, {total, inner_});
  ArenaScope scope(*ctx.workspace);
  const Tensor all = tp_.all_rows(*ctx.workspace, stash.mlp_input);
  tp_.gather(ctx, stash.mlp_input, all, "mlp input", [&](int64_t begin, int64_t end) {
    const Tensor x = rows_of(all, begin, end), up = rows_of(stash.up, begin, end),
                 activation = rows_of(stash.activation, begin, end);
    const AdapterRows adapter = adapter_rows(rows, Site::up, begin);
    if (model_.is_swiglu())
      up_.forward_swiglu(ctx, x, up, activation, adapter);
    else
      up_.forward_gelu(ctx, x, up, activation, gelu_kind(), adapter);
  });
}

// The activation alone.
void DecoderLayer::activate(const Context& ctx, Arena& arena, LayerStash& stash) const {
  stash.activation = allocate(arena, stash.up.dtype, {stash.up.size(0), inner_});
  if (model_.is_swiglu()) {
    swiglu_forward(ctx, stash.up, stash.activation);
  } else {
    gelu_forward(ctx, stash.up, stash.activation, gelu_kind());
  }
}

void DecoderLayer::restore(const Context& ctx, Arena& arena, const RowInfo& rows,
                           LayerStash& stash) const {
  if (recompute_ == Recompute::none) return;
  const TimeSplit::Scope time(tp_.times(), TimeKind::recompute);
  const Tensor x = stash.attention_norm.x;
  const int64_t n = x.size(0), e = model_.hidden_size;
  stash.attention_input = allocate(arena, x.dtype, {n, e});
  stash.mlp_input = allocate(arena, x.dtype, {n, e});
  attention_norm_.forward(ctx, arena, x, stash.attention_input, stash.attention_norm);
  if (recompute_ == Recompute::full) project_heads(ctx, arena, rows, stash);
  attend(ctx, arena, rows, stash, nullptr);
  if (recompute_ == Recompute::full) {
    stash.mlp_norm.x = allocate(arena, x.dtype, {n, e});
    const Tensor branch = allocate(arena, x.dtype, {n, e});
    attention_branch(ctx, rows, stash, branch);
    mlp_norm_.add_forward(ctx, arena, branch, x, stash.mlp_input, stash.mlp_norm);
    expand(ctx, arena, arena, rows, stash);
  } else {
    mlp_norm_.forward(ctx, arena, stash.mlp_norm.x, stash.mlp_input, stash.mlp_norm);
    activate(ctx, arena, stash);
  }
}

// ---- Backward

void DecoderLayer::backward_input(const Context& ctx, Arena& made, const RowInfo& rows,
                                  LayerStash& stash, const Tensor& d_out,
                                  const Tensor& d_in) const {
  const int64_t n = d_out.size(0), e = model_.hidden_size;
  const DType dtype = d_out.dtype;
  restore(ctx, made, rows, stash);
  // `made` may be the workspace: everything made is allocated outside of its scopes.
  Tensor d_branch = d_out;
  if (drops(rows)) {
    d_branch = allocate(made, dtype, {n, e});
    drop(ctx, rows, d_out, d_branch, Site::mlp_branch);
  }
  stash.d_mlp_output = tp_.all_rows(made, d_branch);
  stash.d_up = allocate(made, dtype, {stash.up.size(0), stash.up.size(1)});
  const Tensor d_mid = allocate(made, dtype, {n, e});
  mlp_backward(ctx, rows, stash, d_branch, d_mid);
  mlp_norm_.backward(ctx, stash.mlp_norm, d_mid, d_out, d_mid);

  d_branch = d_mid;
  if (drops(rows)) {
    d_branch = allocate(made, dtype, {n, e});
    drop(ctx, rows, d_mid, d_branch, Site::attention_branch);
  }
  stash.d_attention_branch = tp_.all_rows(made, d_branch);
  stash.d_qkv = allocate(made, dtype, {stash.qkv.size(0), stash.qkv.size(1)});
  ArenaScope scope(*ctx.workspace);
  const Tensor d_attention =
      allocate(*ctx.workspace, dtype, {stash.qkv.size(0), heads_ * model_.head_dim});
  tp_.gather(ctx, d_branch, stash.d_attention_branch, "attention output gradient",
             [&](int64_t begin, int64_t end) {
               output_.backward_input(ctx, rows_of(stash.d_attention_branch, begin, end),
                                      rows_of(d_attention, begin, end),
                                      adapter_rows(rows, Site::output, begin));
             });
  attend_backward(ctx, rows, stash, d_attention);
  const Tensor all = tp_.all_rows(*ctx.workspace, d_in);
  tp_.reduce_scatter(ctx, all, d_in, "attention input gradient", [&](int64_t begin, int64_t end) {
    qkv_.backward_input(ctx, rows_of(stash.d_qkv, begin, end), rows_of(all, begin, end),
                        adapter_rows(rows, Site::qkv, begin));
  });
  attention_norm_.backward(ctx, stash.attention_norm, d_in, d_mid, d_in);
}

// From the gradient of the MLP's output (own rows) to that of its input. For gelu the gradient of
// the activation becomes that of `up` in place.
void DecoderLayer::mlp_backward(const Context& ctx, const RowInfo& rows, const LayerStash& stash,
                                const Tensor& d_branch, const Tensor& d_mid) const {
  ArenaScope scope(*ctx.workspace);
  const Tensor d_activation =
      model_.is_swiglu() ? allocate(*ctx.workspace, d_mid.dtype, {stash.activation.size(0), inner_})
                         : stash.d_up;
  tp_.gather(ctx, d_branch, stash.d_mlp_output, "mlp output gradient",
             [&](int64_t begin, int64_t end) {
               down_.backward_input(ctx, rows_of(stash.d_mlp_output, begin, end),
                                    rows_of(d_activation, begin, end),
                                    adapter_rows(rows, Site::down, begin));
             });
  if (model_.is_swiglu()) {
    swiglu_backward(ctx, d_activation, stash.up, stash.d_up);
  } else {
    gelu_backward(ctx, stash.d_up, stash.up, stash.d_up, gelu_kind());
  }
  const Tensor all = tp_.all_rows(*ctx.workspace, d_mid);
  tp_.reduce_scatter(ctx, all, d_mid, "mlp input gradient", [&](int64_t begin, int64_t end) {
    up_.backward_input(ctx, rows_of(stash.d_up, begin, end), rows_of(all, begin, end),
                       adapter_rows(rows, Site::up, begin));
  });
}

void DecoderLayer::attend_backward(const Context& ctx, const RowInfo& rows, const LayerStash& stash,
                                   const Tensor& d_attention) const {
  const int64_t total = d_attention.size(0), h = heads_, d = model_.head_dim;
  const Heads heads = split_heads(stash.qkv, stash.qk), gradients = split_heads(stash.d_qkv, {});
  attention_backward(ctx, d_attention.view({total, h, d}), heads.q, heads.k, heads.v,
                     stash.attention_output.view({total, h, d}), stash.lse, rows.sequences,
                     gradients.q, gradients.k, gradients.v, attention_options());
  if (rows.rope_cos.defined()) {
    rope(ctx, gradients.q, rows.positions, rows.rope_cos, rows.rope_sin, RopeDirection::backward);
    rope(ctx, gradients.k, rows.positions, rows.rope_cos, rows.rope_sin, RopeDirection::backward);
  }
  if (!q_norm_) return;
  const Heads raw = split_heads(stash.qkv, {});
  q_norm_->backward_heads(ctx, gradients.q, raw.q, stash.q_rstd, gradients.q);
  k_norm_->backward_heads(ctx, gradients.k, raw.k, stash.k_rstd, gradients.k);
}

// The inputs of the column-parallel layers are gathered again: only this rank's rows were kept.
void DecoderLayer::backward_weight(const Context& ctx, const RowInfo& rows,
                                   const LayerStash& stash) const {
  ArenaScope scope(*ctx.workspace);
  const Tensor mlp_input = tp_.all_rows(*ctx.workspace, stash.mlp_input),
               attention_input = tp_.all_rows(*ctx.workspace, stash.attention_input);
  down_.backward_weight(ctx, stash.d_mlp_output, stash.activation,
                        adapter_rows(rows, Site::down, 0));
  tp_.gather(ctx, stash.mlp_input, mlp_input, "mlp input again");
  up_.backward_weight(ctx, stash.d_up, mlp_input, adapter_rows(rows, Site::up, 0));
  output_.backward_weight(ctx, stash.d_attention_branch, stash.attention_output,
                          adapter_rows(rows, Site::output, 0));
  tp_.gather(ctx, stash.attention_input, attention_input, "attention input again");
  qkv_.backward_weight(ctx, stash.d_qkv, attention_input, adapter_rows(rows, Site::qkv, 0));
}

void check_tensor_parallel(const ModelConfig& model, int tp, int64_t rows) {
  const auto check = [&](int64_t size, const char* name, bool fewer_allowed) {
    if (size % tp == 0 || (fewer_allowed && tp % size == 0)) return;
    fail_input("parallel.tp {} does not divide model.{} {}{}", tp, name, size,
               fewer_allowed ? ", nor the other way round" : "");
  };
  check(model.num_attention_heads, "num_attention_heads", false);
  check(model.num_key_value_heads, "num_key_value_heads", true);
  check(model.intermediate_size, "intermediate_size", false);
  if (rows % tp != 0) {
    fail_input(
        "parallel.tp {} does not divide the {} tokens of a micro-batch (train.micro_batch_size x "
        "data.sequence_length): the sequence is split between layers",
        tp, rows);
  }
}

}  // namespace forja
