// SPDX-License-Identifier: Apache-2.0
// CPU versions of ops/layer_norm.h; arguments are checked there. weight and bias are fp32.
#pragma once

#include "forja/tensor/tensor.h"

namespace forja::cpu {

// With a residual: sum = x + residual first. Without (undefined): sum is x.
void layer_norm_forward(const Tensor& x, const Tensor& residual, const Tensor& weight,
                        const Tensor& bias, const Tensor& sum, const Tensor& y, const Tensor& mean,
                        const Tensor& rstd, float eps);
// partial [row_blocks(R), 2H] fp32 is scratch for the gradients of weight and bias, undefined
// without either.
void layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& residual_gradient,
                         const Tensor& dx, const Tensor& weight_gradient,
                         const Tensor& bias_gradient, const Tensor& partial);

}  // namespace forja::cpu
