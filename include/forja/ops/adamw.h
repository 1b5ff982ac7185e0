// SPDX-License-Identifier: Apache-2.0
// AdamW over a list of parameters, fused: one pass updates moments, master weight and the copy for
// computing of all of them. Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
// 2019; the same order of operations as PyTorch.
//
// Moments are fp32, or bf16 to halve their memory. All arithmetic is fp32: a bf16 moment is rounded
// once, when it is stored. To nearest, a moment stays where it is when a step moves it by less than
// half the distance to the next bf16 number, which is 2^-9 to 2^-8 of it: with beta2 above 1 - 2^-9
// a second moment never shrinks. Rounding.stochastic moves it by the right amount on average.
#pragma once

#include <vector>

#include "forja/base/element_map.h"
#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

struct AdamWOptions {
  float lr, beta1, beta2, eps, weight_decay;
  float clip_norm;  // gradients are scaled by min(1, clip_norm / (norm + 1e-6)); 0: not clipped
  Rounding rounding = Rounding::nearest;  // of bf16 moments
};

// What all parameters of a step share, on the device: the host need not know whether the step is
// skipped.
struct AdamWState {
  Tensor sum_of_squares;  // [1] f64: of all gradients, global over the mesh
  Tensor num_updates;     // [1] i64: updates done, this one included (begin_adamw_step counts it)
  // [1] f64, finite: a step whose sum of squares is above it, or not finite, changes nothing. So
  // a spike of the norm does no harm; source: the skip-step optimizer of OLMo 2 (Team OLMo, "2 OLMo
  // 2 Furious", 2024).
  Tensor largest_sum;
};

// One parameter, or a range of one: contiguous tensors with the same number of elements.
struct AdamWRange {
  Tensor gradient, weight;             // fp32; weight is the master
  Tensor first_moment, second_moment;  // both fp32 or both bf16
  Tensor compute_weight;               // bf16 copy of the new weight (to nearest: the master keeps
                                       // what is lost), or undefined where the master computes
  bool decays = true;                  // the weight decay applies
  bool counts = true;                  // in the sum of squares
  float lr_scale = 1.0f;               // of the learning rate, in the decay too
  // For stochastic rounding. With u the number of updates and e the element in the full tensor,
  // word e % 4 of philox(key, e / 4, u) has the 16 bits of the first moment in its low half, those
  // of the second in its high half.
  uint64_t key = 0;
  ElementMap elements;
};

// The parameters of a rank. The tensors' memory must stay where it is.
struct AdamWList {
  std::vector<AdamWRange> ranges;  // none is empty
  DType moment_dtype = DType::f32;
  Tensor table;  // [bytes] u8: the ranges as the kernels of a GPU read them; undefined on the CPU
};
// Checks the ranges and puts their table into the arena.
AdamWList make_adamw_list(const Context& ctx, const std::vector<AdamWRange>& ranges, Arena& arena);

// sum[0] = the sum of the squares of all gradients that count, in fp64; sum [1] f64. Deterministic
// for given sizes, whatever the threads.
void sum_of_squares(const Context& ctx, const AdamWList& list, const Tensor& sum);

// Counts the step, unless its sum of squares is not accepted: then this step's adamw_step changes
// nothing.
void begin_adamw_step(const Context& ctx, const AdamWState& state);

void adamw_step(const Context& ctx, const AdamWState& state, const AdamWOptions& options,
                const AdamWList& list);

}  // namespace forja
