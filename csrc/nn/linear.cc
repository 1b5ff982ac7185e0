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
  if (LoraAdapter::is_wanted(spec.lora, spec.segments))
    adapter_.emplace(store, AdaptedLinear{weight_, spec.name, spec.segments}, spec.lora);
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

void Linear::forward(const Context& ctx, const Tensor& x, const Tensor& y,
                     const AdapterRows& rows) const {
  matmul(ctx, x, weight_->weight.transposed(), y, MatmulOutput::overwrite, bias());
  if (adapts(rows)) adapter_->forward(ctx, x, y, rows);
}

// An adapter's part comes between the product and its activation.
void Linear::forward_gelu(const Context& ctx, const Tensor& x, const Tensor& y,
                          const Tensor& activation, GeluKind kind, const AdapterRows& rows) const {
  if (!adapts(rows))
    return matmul_gelu(ctx, x, weight_->weight.transposed(), y, activation, kind, bias());
  forward(ctx, x, y, rows);
  gelu_forward(ctx, y, activation, kind);
}

void Linear::forward_swiglu(const Context& ctx, const Tensor& x, const Tensor& y,
                            const Tensor& activation, const AdapterRows& rows) const {
  if (!adapts(rows))
    return matmul_swiglu(ctx, x, weight_->weight.transposed(), y, activation, bias());
  forward(ctx, x, y, rows);
  swiglu_forward(ctx, y, activation);
}

void Linear::backward_input(const Context& ctx, const Tensor& dy, const Tensor& dx,
                            const AdapterRows& rows) const {
  matmul(ctx, dy, weight_->weight, dx);
  if (adapts(rows)) adapter_->backward_input(ctx, dy, dx, rows);
}

void Linear::backward_weight(const Context& ctx, const Tensor& dy, const Tensor& x,
                             const AdapterRows& rows) const {
  if (weight_->gradient.defined())
    matmul(ctx, dy.transposed(), x, weight_->gradient, MatmulOutput::accumulate);
  if (bias_ && bias_->gradient.defined()) bias_gradient(ctx, dy, bias_->gradient);
  if (adapts(rows)) adapter_->backward_weight(ctx, dy, x, rows);
}

}  // namespace forja
