// SPDX-License-Identifier: Apache-2.0
// ops/rms_norm.h and ops/layer_norm.h on a GPU; arguments are checked there.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja::cuda {

// Undefined: residual, and then sum too; bias.
void rms_norm_forward(const Context& ctx, const Tensor& x, const Tensor& residual,
                      const Tensor& weight, const Tensor& sum, const Tensor& y, const Tensor& rstd,
                      float eps);
void rms_norm_backward(const Context& ctx, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& residual_gradient, const Tensor& dx,
                       const Tensor& weight_gradient);
void layer_norm_forward(const Context& ctx, const Tensor& x, const Tensor& residual,
                        const Tensor& weight, const Tensor& bias, const Tensor& sum,
                        const Tensor& y, const Tensor& mean, const Tensor& rstd, float eps);
void layer_norm_backward(const Context& ctx, const Tensor& dy, const Tensor& x,
                         const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                         const Tensor& residual_gradient, const Tensor& dx,
                         const Tensor& weight_gradient, const Tensor& bias_gradient);

}  // namespace forja::cuda
