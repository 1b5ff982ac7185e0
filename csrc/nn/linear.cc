// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/linear.h"

#include "forja/ops/elementwise.h"

namespace forja {

Linear::Linear(ParameterStore& store, const Spec& spec) {
  ParameterSpec weight;
  weight.name = spec.name + ".weight";
  weight.shape = {spec.outputs, spec.inputs};
  weight.init_std = spec.init_std;
  weight.stage = spec.stage;
  weight.unit = spec.layer;
  weight.placement = spec.placement;
  weight.row_groups = spec.row_groups;
  for (HfSegment segment : spec.segments) {
    segment.name += ".weight";
    weight.segments.push_back(segment);
  }
  weight_ = store.declare(weight);
  if (!spec.bias) return;
  ParameterSpec bias;
  bias.name = spec.name + ".bias";
  bias.shape = {spec.outputs};
  bias.init = InitKind::zeros;
  bias.decay = false;
  bias.stage = spec.stage;
  if (spec.placement == TensorPlacement::rows) {
    bias.unit = spec.layer;
    bias.placement = spec.placement;
    bias.row_groups = spec.row_groups;
  } else {
    bias.kind = UnitKind::replicated;
  }
  for (HfSegment segment : spec.segments)
    bias.segments.push_back({segment.name + ".bias", segment.rows, false});
  // Of a sum over ranks, one adds the bias, and one has its gradient.
  Parameter* declared = store.declare(bias);
  if (bias.kind == UnitKind::layer || store.options().tp_rank == 0) bias_ = declared;
}

void Linear::forward(const Context& ctx, const Tensor& x, const Tensor& y) const {
  matmul(ctx, x, weight_->weight.transposed(), y, MatmulOutput::overwrite, bias());
}

void Linear::forward_gelu(const Context& ctx, const Tensor& x, const Tensor& y,
                          const Tensor& activation, GeluKind kind) const {
  matmul_gelu(ctx, x, weight_->weight.transposed(), y, activation, kind, bias());
}

void Linear::forward_swiglu(const Context& ctx, const Tensor& x, const Tensor& y,
                            const Tensor& activation) const {
  matmul_swiglu(ctx, x, weight_->weight.transposed(), y, activation, bias());
}

void Linear::backward_input(const Context& ctx, const Tensor& dy, const Tensor& dx) const {
  matmul(ctx, dy, weight_->weight, dx);
}

void Linear::backward_weight(const Context& ctx, const Tensor& dy, const Tensor& x) const {
  if (weight_->gradient.defined())
    matmul(ctx, dy.transposed(), x, weight_->gradient, MatmulOutput::accumulate);
  if (bias_ && bias_->gradient.defined()) bias_gradient(ctx, dy, bias_->gradient);
}

}  // namespace forja
