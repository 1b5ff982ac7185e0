// SPDX-License-Identifier: Apache-2.0
// One pre-norm decoder layer: x += attention(norm(x)); x += mlp(norm(x)). The second addition of a
// layer is done by the first norm of the next one, so what passes between layers is (residual,
// branch) with x = residual + branch.
#pragma once

#include <optional>

#include "forja/nn/linear.h"
#include "forja/nn/model_config.h"
#include "forja/nn/norm.h"
#include "forja/ops/attention.h"

namespace forja {

// Legend: N rows (tokens of a micro-batch), E hidden size, H query heads, G key-value heads, D head
// size, F MLP width, S sequences, P positions.

// What every layer reads of a micro-batch.
struct RowInfo {
  Tensor positions;           // [N] int32
  Tensor sequences;           // [S, 4] int32, see ops/attention.h
  Tensor rope_cos, rope_sin;  // [P, D/2]; undefined without rotary positions
  uint64_t dropout_key = 0;   // of (seed, step); 0: no dropout (evaluation)
  int64_t first_row = 0;      // global index of row 0 in the step, for dropout
};

// Keys and values of earlier tokens, for generation. Row r of `rows` says where row r of the
// micro-batch goes.
struct KeyValueCache {
  Tensor keys, values;  // [cache rows, G, D]
  const int64_t* rows;  // [N]
};

struct LayerStash {
  Norm::Stash attention_norm, mlp_norm;
  Tensor attention_input;   // [N, E] h = norm(x)
  Tensor qkv;               // [N, (H + 2G) D]
  Tensor qk;                // [N, (H + G) D] normalised; only with qk_norm
  Tensor q_rstd, k_rstd;    // only with qk_norm
  Tensor attention_output;  // [N, H D]
  Tensor lse;               // [H, N]
  Tensor mlp_input;         // [N, E]
  Tensor up;                // [N, 2F] gate and up, or [N, F]
  Tensor activation;        // [N, F]
  // Made by backward_input for backward_weight.
  Tensor d_mlp_output;        // [N, E]
  Tensor d_up;                // as up
  Tensor d_attention_branch;  // [N, E]
  Tensor d_qkv;               // as qkv

  StashEntries entries() const;
};

class DecoderLayer {
 public:
  DecoderLayer(ParameterStore& store, const ModelConfig& model, int64_t index);

  // residual [N, E] and branch [N, E] (undefined in front of the first layer) are x; afterwards
  // `residual` is the new residual and `branch` holds the output of the MLP. What backward needs is
  // allocated from `stash_arena`.
  void forward(const Context& ctx, Arena& stash_arena, const RowInfo& rows, Tensor& residual,
               const Tensor& branch, bool branch_is_empty, LayerStash& stash,
               const KeyValueCache* cache = nullptr) const;

  // d_in = gradient of the layer's x from d_out, that of its output. What backward_weight reads is
  // allocated from `made_arena`; d_out must live until backward_weight.
  void backward_input(const Context& ctx, Arena& made_arena, const RowInfo& rows, LayerStash& stash,
                      const Tensor& d_out, const Tensor& d_in) const;
  void backward_weight(const Context& ctx, const LayerStash& stash) const;

 private:
  // The queries, keys and values of a fused [N, (H + 2G) D].
  struct Heads {
    Tensor q, k, v;  // [N, H, D], [N, G, D], [N, G, D]
  };
  Heads split_heads(const Tensor& qkv, const Tensor& qk) const;
  AttentionOptions attention_options() const;
  void attend(const Context& ctx, Arena& arena, const RowInfo& rows, LayerStash& stash,
              const KeyValueCache* cache) const;
  void attend_backward(const Context& ctx, const RowInfo& rows, const LayerStash& stash,
                       const Tensor& d_attention) const;
  void drop(const Context& ctx, const RowInfo& rows, const Tensor& x, const Tensor& y,
            int site) const;

  ModelConfig model_;
  int64_t index_;
  Norm attention_norm_;
  Linear qkv_, output_;
  std::optional<Norm> q_norm_, k_norm_;
  Norm mlp_norm_;
  Linear up_, down_;
};

}  // namespace forja
