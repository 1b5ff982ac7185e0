// SPDX-License-Identifier: Apache-2.0
// Root-mean-square normalisation over the last dim. Source: Zhang and Sennrich, "Root Mean Square
// Layer Normalization", 2019. y = x / sqrt(mean(x^2) + eps) * weight, computed in fp32.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

// Legend: rows R = all dims but the last, flattened; H the last dim, contiguous; other dims may be
// strided (rank 2 or 3).
//   x, y: the same shape, fp32 or bf16; y may be x. weight [H] fp32 or the dtype of x. rstd [R]
//   fp32, kept for backward.
void rms_norm_forward(const Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& y,
                      const Tensor& rstd, float eps);

// The same with a residual connection in front: sum = x + residual (rounded to the dtype), y =
// norm(sum). sum may be residual or x.
void add_rms_norm_forward(const Context& ctx, const Tensor& x, const Tensor& residual,
                          const Tensor& weight, const Tensor& sum, const Tensor& y,
                          const Tensor& rstd, float eps);

// dx = gradient through the norm (+ residual_gradient when defined: the gradient that reaches x
// past the norm).
//   x: the input of the norm (`sum`). dx may be dy or residual_gradient.
//   weight_gradient [H] fp32: accumulated into; undefined when the weight is frozen. Deterministic.
void rms_norm_backward(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& residual_gradient, const Tensor& dx,
                       const Tensor& weight_gradient);

}  // namespace forja
