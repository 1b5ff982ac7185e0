// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b, and what an adapter adds.
#pragma once

#include <optional>
#include <string>

#include "forja/nn/lora.h"
#include "forja/ops/matmul.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

// Legend: N rows, I inputs, O outputs of this rank. Weight [O, I], bias [O] (may be absent). Holds
// pointers into the store.
//   Column-parallel (Megatron's word; placement rows of our [O, I]): each rank has a part of the
//   outputs. Row-parallel (placement columns): each rank has a part of the inputs, and y is a part
//   of a sum over ranks; the bias is added on the first rank only.
// Source: Shoeybi et al., "Megatron-LM", 2019.
class Linear {
 public:
  struct Spec {
    std::string name;         // of the layer: parameters are name.weight and name.bias
    int64_t inputs, outputs;  // full
    bool bias;
    float init_std;
    int stage, layer;
    TensorPlacement placement;
    std::vector<RowGroup> row_groups;
    std::vector<HfSegment> segments;  // of the weight, names without ".weight"
    LoraConfig lora;
  };
  Linear(ParameterStore& store, const Spec& spec);

  // y [N, O] from x [N, I].
  void forward(const Context& ctx, const Tensor& x, const Tensor& y, const AdapterRows& rows) const;
  // The same, and its activation: gelu of y [N, O], or silu(gate) * up [N, O / 2] of y as gate and
  // up.
  void forward_gelu(const Context& ctx, const Tensor& x, const Tensor& y, const Tensor& activation,
                    GeluKind kind, const AdapterRows& rows) const;
  void forward_swiglu(const Context& ctx, const Tensor& x, const Tensor& y,
                      const Tensor& activation, const AdapterRows& rows) const;
  // dx [N, I] from dy [N, O].
  void backward_input(const Context& ctx, const Tensor& dy, const Tensor& dx,
                      const AdapterRows& rows) const;
  // Adds to the gradients of weight, bias and adapter. Nothing happens for frozen ones.
  void backward_weight(const Context& ctx, const Tensor& dy, const Tensor& x,
                       const AdapterRows& rows) const;

 private:
  Tensor bias() const { return bias_ ? bias_->weight : Tensor{}; }
  bool adapts(const AdapterRows& rows) const { return adapter_ && rows.on; }

  Parameter* weight_;
  Parameter* bias_ = nullptr;
  std::optional<LoraAdapter> adapter_;
};

}  // namespace forja
