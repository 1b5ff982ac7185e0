// SPDX-License-Identifier: Apache-2.0
// One pre-norm decoder layer: x += attention(norm(x)); x += mlp(norm(x)). The second addition of a
// layer is done by the first norm of the next one, so what passes between layers is (residual,
// branch) with x = residual + branch.
#pragma once

#include <optional>

#include "forja/nn/linear.h"
#include "forja/nn/model_config.h"
#include "forja/nn/norm.h"
#include "forja/nn/tensor_parallel.h"
#include "forja/ops/activation.h"
#include "forja/ops/attention.h"
#include "forja/parallel/parallel_config.h"

namespace forja {

// Legend: N rows (tokens of a micro-batch), n rows of this tensor-parallel rank (N / tp), E hidden
// size, H query heads, G key-value heads, F MLP width (of this rank all three), D head size, S
// sequences, P positions.

// What every layer reads of a micro-batch.
struct RowInfo {
  Tensor positions;           // [N] int32
  Tensor sequences;           // [S, 4] int32, see ops/attention.h
  Tensor rope_cos, rope_sin;  // [P, D/2]; undefined without rotary positions
  uint64_t dropout_key = 0;   // of (seed, step); 0: no dropout (evaluation)
  int64_t first_row = 0;      // global index of row 0 in the step, for dropout
  bool adapters = true;       // false: the model as it is without them
};

// Keys and values of earlier tokens, for generation. Row r of `rows` says where row r of the
// micro-batch goes.
struct KeyValueCache {
  Tensor keys, values;  // [cache rows, G, D]
  const int64_t* rows;  // [N]
};

// What a layer keeps from forward to backward, by who reads it (I input gradient, W weight
// gradient). What is computed again (see Recompute) is empty until backward_input.
struct LayerStash {
  Norm::Stash attention_norm, mlp_norm;  // I; attention_norm.x is the layer's input, always kept
  Tensor attention_input;                // [n, E] h = norm(x); W; computed again: selective
  Tensor qkv;                            // [N, (H + 2G) D]; I
  Tensor qk;                             // [N, (H + G) D] normalised; I; only with qk_norm
  Tensor q_rstd, k_rstd;                 // I; only with qk_norm
  Tensor attention_output;               // [N, H D]; I and W; computed again: selective
  Tensor lse;                            // [H, N]; I; computed again: selective
  Tensor mlp_input;                      // [n, E]; W; computed again: selective
  Tensor up;                             // [N, 2F] gate and up, or [N, F]; I
  Tensor activation;                     // [N, F]; W; computed again: selective
  // Made by backward_input for backward_weight.
  Tensor d_mlp_output;        // [N, E]
  Tensor d_up;                // as up
  Tensor d_attention_branch;  // [N, E]
  Tensor d_qkv;               // as qkv
};

class DecoderLayer {
 public:
  DecoderLayer(ParameterStore& store, const ModelConfig& model, const TensorParallel& tp,
               int64_t index, int stage, Recompute recompute);

  // residual [n, E] and branch [n, E] (branch_is_empty in front of the first layer) are x;
  // afterwards `residual` is the new residual (in the workspace under full recompute) and `branch`
  // holds the output of the MLP. What backward needs is allocated from `stash_arena`, the rest from
  // the workspace, to be released by the caller.
  void forward(const Context& ctx, Arena& stash_arena, const RowInfo& rows, Tensor& residual,
               const Tensor& branch, bool branch_is_empty, LayerStash& stash,
               const KeyValueCache* cache = nullptr) const;

  // d_in = gradient of the layer's x from d_out, that of its output, both [n, E]. What is computed
  // again and what backward_weight reads is allocated from `made`; d_out must live until
  // backward_weight.
  void backward_input(const Context& ctx, Arena& made, const RowInfo& rows, LayerStash& stash,
                      const Tensor& d_out, const Tensor& d_in) const;
  void backward_weight(const Context& ctx, const RowInfo& rows, const LayerStash& stash) const;

  Recompute recompute() const { return recompute_; }

 private:
  // Where the random numbers of a layer are used.
  enum class Site { attention_branch, mlp_branch, qkv, output, up, down };
  // The queries, keys and values of a fused [N, (H + 2G) D].
  struct Heads {
    Tensor q, k, v;  // [N, H, D], [N, G, D], [N, G, D]
  };
  // Where a forward pass puts what it makes.
  struct Arenas {
    Arena& input;  // of the layer
    Arena& cheap;  // what selective recompute computes again
    Arena& rest;
  };
  Heads split_heads(const Tensor& qkv, const Tensor& qk) const;
  AttentionOptions attention_options() const;
  GeluKind gelu_kind() const { return model_.mlp == "gelu_erf" ? GeluKind::erf : GeluKind::tanh; }
  bool drops(const RowInfo& rows) const { return model_.dropout > 0.0 && rows.dropout_key != 0; }
  uint64_t key_of(const RowInfo& rows, Site site) const;
  AdapterRows adapter_rows(const RowInfo& rows, Site site, int64_t begin) const;
  void drop(const Context& ctx, const RowInfo& rows, const Tensor& x, const Tensor& y,
            Site site) const;
  void project_heads(const Context& ctx, Arena& arena, const RowInfo& rows,
                     LayerStash& stash) const;
  void attend(const Context& ctx, Arena& arena, const RowInfo& rows, LayerStash& stash,
              const KeyValueCache* cache) const;
  void attention_branch(const Context& ctx, const RowInfo& rows, const LayerStash& stash,
                        const Tensor& branch) const;
  void expand(const Context& ctx, Arena& arena, Arena& activation_arena, const RowInfo& rows,
              LayerStash& stash) const;
  void activate(const Context& ctx, Arena& arena, LayerStash& stash) const;
  // Computes again what forward did not keep.
  void restore(const Context& ctx, Arena& arena, const RowInfo& rows, LayerStash& stash) const;
  void mlp_backward(const Context& ctx, const RowInfo& rows, const LayerStash& stash,
                    const Tensor& d_branch, const Tensor& d_mid) const;
  void attend_backward(const Context& ctx, const RowInfo& rows, const LayerStash& stash,
                       const Tensor& d_attention) const;

  ModelConfig model_;
  TensorParallel tp_;
  int64_t index_;
  Recompute recompute_;
  int64_t heads_, key_value_heads_, inner_;  // of this rank
  Norm attention_norm_;
  Linear qkv_, output_;
  std::optional<Norm> q_norm_, k_norm_;
  Norm mlp_norm_;
  Linear up_, down_;
};

// Throws bad_input when `tp` ranks cannot divide the model's heads, width or the rows of a
// micro-batch.
void check_tensor_parallel(const ModelConfig& model, int tp, int64_t rows);

}  // namespace forja
