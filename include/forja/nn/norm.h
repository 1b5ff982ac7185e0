// SPDX-License-Identifier: Apache-2.0
// LayerNorm or RMSNorm with its parameters, alone or with the residual addition in front of it.
#pragma once

#include <string>

#include "forja/nn/model_config.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

// Legend: N rows of H elements.
class Norm {
 public:
  struct Stash {
    Tensor x;           // [N, H] input of the norm: the sum, where there is a residual
    Tensor mean, rstd;  // [N] fp32; mean only for LayerNorm
  };

  Norm(ParameterStore& store, const ModelConfig& model, const std::string& name,
       const std::string& hf_name, int64_t size, int stage);

  // y = norm(x). x is kept in the stash as it is; statistics come from `arena`.
  void forward(const Context& ctx, Arena& arena, const Tensor& x, const Tensor& y,
               Stash& stash) const;
  // y = norm(x + residual). The sum goes to stash.x, which is there; statistics come from `arena`.
  void add_forward(const Context& ctx, Arena& arena, const Tensor& x, const Tensor& residual,
                   const Tensor& y, Stash& stash) const;
  // dx = gradient through the norm + residual_gradient (may be undefined); adds to the gradients of
  // the parameters.
  void backward(const Context& ctx, const Stash& stash, const Tensor& dy,
                const Tensor& residual_gradient, const Tensor& dx) const;

  // RMS norm of each head, in place allowed: x, y [N, heads, D] strided. statistics [N heads].
  void forward_heads(const Context& ctx, const Tensor& x, const Tensor& y,
                     const Tensor& rstd) const;
  void backward_heads(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& rstd,
                      const Tensor& dx) const;

 private:
  void allocate_statistics(Arena& arena, int64_t rows, Stash& stash) const;

  bool layer_norm_;
  float eps_;
  Parameter* weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace forja
