// SPDX-License-Identifier: Apache-2.0
// AdamW, fused: one pass over a parameter updates moments, master weight and the copy for
// computing. Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019; the same
// order of operations as PyTorch.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

struct AdamWOptions {
  float lr, beta1, beta2, eps, weight_decay;
  float clip_norm;  // gradients are scaled by min(1, clip_norm / (norm + 1e-6)); 0: not clipped
};

// What all parameters of a step share, on the device: the host need not know whether the step is
// skipped.
struct AdamWState {
  Tensor sum_of_squares;  // [1] f64: of all gradients, global over the mesh
  Tensor num_updates;     // [1] i64: updates done, this one included (begin_adamw_step counts it)
};

// Counts the step, unless the gradient norm is not finite: then this step's adamw_step calls change
// nothing.
void begin_adamw_step(const Context& ctx, const AdamWState& state);

// One parameter (or a range of one). All contiguous with the same number of elements.
//   gradient, weight, first_moment, second_moment: fp32. weight is the master.
//   compute_weight: bf16 copy of the new weight, or undefined where computing uses the master
//   itself.
void adamw_step(const Context& ctx, const AdamWState& state, const AdamWOptions& options,
                const Tensor& gradient, const Tensor& weight, const Tensor& first_moment,
                const Tensor& second_moment, const Tensor& compute_weight);

}  // namespace forja
