// SPDX-License-Identifier: Apache-2.0
// Layer normalisation over the last dim. Source: Ba, Kiros and Hinton, "Layer Normalization", 2016.
// y = (x - mean) / sqrt(var + eps) * weight + bias, computed in fp32 (var: mean of squared
// deviations).
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

// Legend: R rows, H elements a row (contiguous; rows may be strided).
//   x, y [R, H] fp32 or bf16; y may be x. weight, bias [H] fp32 or the dtype of x; bias may be
//   undefined. mean, rstd [R] fp32, kept for backward.
void layer_norm_forward(const Context& ctx, const Tensor& x, const Tensor& weight,
                        const Tensor& bias, const Tensor& y, const Tensor& mean, const Tensor& rstd,
                        float eps);

// The same with a residual connection in front: sum = x + residual (rounded to the dtype), y =
// norm(sum).
void add_layer_norm_forward(const Context& ctx, const Tensor& x, const Tensor& residual,
                            const Tensor& weight, const Tensor& bias, const Tensor& sum,
                            const Tensor& y, const Tensor& mean, const Tensor& rstd, float eps);

// dx = gradient through the norm (+ residual_gradient when defined). dx may be dy or
// residual_gradient. weight_gradient, bias_gradient [H] fp32: accumulated into; undefined when
// frozen or absent. Deterministic.
void layer_norm_backward(const Context& ctx, const Tensor& dy, const Tensor& x,
                         const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                         const Tensor& residual_gradient, const Tensor& dx,
                         const Tensor& weight_gradient, const Tensor& bias_gradient);

}  // namespace forja
