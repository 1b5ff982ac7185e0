// SPDX-License-Identifier: Apache-2.0
// ops/elementwise.h and ops/dropout.h on a GPU; arguments are checked there.
#pragma once

#include "forja/base/element_map.h"
#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja::cuda {

void fill_value(const Context& ctx, const Tensor& x, float value);
void fill_zero(const Context& ctx, const Tensor& x);
void convert(const Context& ctx, const Tensor& in, const Tensor& out);
void add(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out);
void bias_gradient(const Context& ctx, const Tensor& dy, const Tensor& bias_gradient);
// Waits for the GPU.
int64_t find_non_finite(const Context& ctx, const Tensor& x);
void fill_normal(const Context& ctx, const Tensor& x, uint64_t key, int64_t first_element,
                 float mean, float std);
void dropout(const Context& ctx, const Tensor& x, const Tensor& y, float probability, uint64_t key,
             const ElementMap& elements);
// out = factor x.
void scale(const Context& ctx, const Tensor& x, float factor, const Tensor& out);

}  // namespace forja::cuda
