// SPDX-License-Identifier: Apache-2.0
// Simple passes over contiguous tensors.
#pragma once

#include <cstdint>

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

void fill_zero(const Context& ctx, const Tensor& x);

// out = in, rounded to out's dtype (fp32, bf16). Same number of elements; both contiguous.
void convert(const Context& ctx, const Tensor& in, const Tensor& out);

// out = a + b in fp32, rounded to out's dtype. out may be a or b. fp32 or bf16.
void add(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out);

// out = factor x, of the same dtype. out may be x.
void scale(const Context& ctx, const Tensor& x, float factor, const Tensor& out);

// bias_gradient[c] += sum over rows of dy[r, c]. dy [R, C] fp32 or bf16 (rows may be strided),
// bias_gradient [C] fp32.
void bias_gradient(const Context& ctx, const Tensor& dy, const Tensor& bias_gradient);

// The index of the first element that is not finite, or -1. fp32 or bf16.
int64_t find_non_finite(const Context& ctx, const Tensor& x);

// x[i] = mean + std * normal number of (key, index of the element in the full tensor): the same in
// every layout.
//   x contiguous fp32; its element i is element first_element + i of the full tensor.
void fill_normal(const Context& ctx, const Tensor& x, uint64_t key, int64_t first_element,
                 float mean, float std);
void fill_value(const Context& ctx, const Tensor& x, float value);  // fp32 or bf16

}  // namespace forja
