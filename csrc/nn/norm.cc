// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/norm.h"

#include "forja/ops/layer_norm.h"
#include "forja/ops/rms_norm.h"

namespace forja {
namespace {

ParameterSpec vector_spec(const std::string& name, const std::string& hf_name, int64_t size,
                          InitKind init, int stage) {
  ParameterSpec spec;
  spec.name = name;
  spec.shape = {size};
  spec.init = init;
  spec.decay = false;
  spec.stage = stage;
  spec.kind = UnitKind::replicated;
  spec.segments = {{hf_name, size, false}};
  return spec;
}

Tensor gradient_of(const Parameter* p) { return p ? p->gradient : Tensor{}; }

}  // namespace

Norm::Norm(ParameterStore& store, const ModelConfig& model, const std::string& name,
           const std::string& hf_name, int64_t size, int stage)
    : layer_norm_(model.is_layer_norm()), eps_(float(model.norm_eps)) {
  weight_ = store.declare(
      vector_spec(name + ".weight", hf_name + ".weight", size, InitKind::ones, stage));
  if (layer_norm_)
    bias_ =
        store.declare(vector_spec(name + ".bias", hf_name + ".bias", size, InitKind::zeros, stage));
}

void Norm::allocate_statistics(Arena& arena, int64_t rows, Stash& stash) const {
  stash.rstd = allocate(arena, DType::f32, {rows});
  if (layer_norm_) stash.mean = allocate(arena, DType::f32, {rows});
}

void Norm::forward(const Context& ctx, Arena& arena, const Tensor& x, const Tensor& y,
                   Stash& stash) const {
  allocate_statistics(arena, x.size(0), stash);
  stash.x = x;
  if (layer_norm_) {
    layer_norm_forward(ctx, x, weight_->weight, bias_->weight, y, stash.mean, stash.rstd, eps_);
  } else {
    rms_norm_forward(ctx, x, weight_->weight, y, stash.rstd, eps_);
  }
}

void Norm::add_forward(const Context& ctx, Arena& arena, const Tensor& x, const Tensor& residual,
                       const Tensor& y, Stash& stash) const {
  allocate_statistics(arena, x.size(0), stash);
  if (layer_norm_) {
    add_layer_norm_forward(ctx, x, residual, weight_->weight, bias_->weight, stash.x, y, stash.mean,
                           stash.rstd, eps_);
  } else {
    add_rms_norm_forward(ctx, x, residual, weight_->weight, stash.x, y, stash.rstd, eps_);
  }
}

void Norm::backward(const Context& ctx, const Stash& stash, const Tensor& dy,
                    const Tensor& residual_gradient, const Tensor& dx) const {
  if (layer_norm_) {
    layer_norm_backward(ctx, dy, stash.x, weight_->weight, stash.mean, stash.rstd,
                        residual_gradient, dx, gradient_of(weight_), gradient_of(bias_));
  } else {
    rms_norm_backward(ctx, dy, stash.x, weight_->weight, stash.rstd, residual_gradient, dx,
                      gradient_of(weight_));
  }
}

void Norm::forward_heads(const Context& ctx, const Tensor& x, const Tensor& y,
                         const Tensor& rstd) const {
  rms_norm_forward(ctx, x, weight_->weight, y, rstd, eps_);
}

void Norm::backward_heads(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& rstd,
                          const Tensor& dx) const {
  rms_norm_backward(ctx, dy, x, weight_->weight, rstd, {}, dx, gradient_of(weight_));
}

}  // namespace forja
