// SPDX-License-Identifier: Apache-2.0
// CPU versions of ops/rms_norm.h; arguments are checked there. weight is fp32.
#pragma once

#include "forja/tensor/tensor.h"

namespace forja::cpu {

// With a residual: sum = x + residual first. Without (undefined): sum is x.
void rms_norm_forward(const Tensor& x, const Tensor& residual, const Tensor& weight,
                      const Tensor& sum, const Tensor& y, const Tensor& rstd, float eps);
// partial [row_blocks(R), H] fp32 is scratch for the weight gradient, undefined without one.
void rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                       const Tensor& residual_gradient, const Tensor& dx,
                       const Tensor& weight_gradient, const Tensor& partial);

}  // namespace forja::cpu
