// SPDX-License-Identifier: Apache-2.0
// Low-rank adapters beside linear layers: y = x W^T + s dropout(x) A^T B^T, where W stays as it is
// and s = alpha / rank.
// Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; s = alpha /
// sqrt(rank): Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forja/device/context.h"
#include "forja/nn/lora_config.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

// What a linear layer and its adapter share.
struct AdaptedLinear {
  const Parameter* weight;
  std::string name;                 // of the layer: parameters are name.lora_a and name.lora_b
  std::vector<HfSegment> segments;  // of the weight, names without ".weight"
};

// The rows that go through an adapter.
struct AdapterRows {
  bool on = true;            // false: as if there were none
  uint64_t dropout_key = 0;  // of the layer and step; 0: no dropout
  int64_t first_row = 0;     // global index of row 0 in the step, for dropout
};

// The adapters of one linear layer: one for each wanted segment of a fused weight, as others keep
// them. Legend: N rows, I inputs, O outputs of this rank, R rank, S segments.
//   A [S R, I], drawn; B [O of the segments, R], zero at the start.
// As the weight's outputs (inputs) are divided among tensor-parallel ranks, so are the rows of B
// (columns of A); the other one is on every rank, which has a part of its gradient's sum.
class LoraAdapter {
 public:
  // Is any segment wanted?
  static bool is_wanted(const LoraConfig& config, const std::vector<HfSegment>& segments);
  LoraAdapter(ParameterStore& store, const AdaptedLinear& linear, const LoraConfig& config);

  // y [N, O] += the adapters' part, from x [N, I].
  void forward(const Context& ctx, const Tensor& x, const Tensor& y, const AdapterRows& rows) const;
  // dx [N, I] += its gradient's part, from dy [N, O].
  void backward_input(const Context& ctx, const Tensor& dy, const Tensor& dx,
                      const AdapterRows& rows) const;
  // Adds to the gradients of A and B.
  void backward_weight(const Context& ctx, const Tensor& dy, const Tensor& x,
                       const AdapterRows& rows) const;

 private:
  // Of a segment: its outputs in y, its rows in B; columns [index R, (index + 1) R) of x A^T.
  struct Part {
    int64_t y_begin, y_end, b_begin;
  };
  Tensor dropped(const Context& ctx, const Tensor& x, const AdapterRows& rows) const;
  bool drops(const AdapterRows& rows) const { return dropout_ > 0.0f && rows.dropout_key != 0; }
  ElementMap elements_of(const AdapterRows& rows) const;
  // The columns of x A^T, or of its gradient, that are a segment's.
  Tensor columns_of(const Tensor& inner, size_t part) const;
  Tensor rows_of(const Tensor& b, size_t part) const;
  Tensor inner_gradient(const Context& ctx, const Tensor& dy) const;

  int64_t rank_;
  float scale_, dropout_;
  Parameter *a_, *b_;
  std::vector<Part> parts_;
};

// weight [O, I] += scale B A, from B [O, R] and A [R, I], all fp32 on the host; sums in fp64.
void add_adapter_product(const float* b, const float* a, int64_t outputs, int64_t rank,
                         int64_t inputs, double scale, float* weight);

}  // namespace forja
