// SPDX-License-Identifier: Apache-2.0
// ops/elementwise.h on a GPU; arguments are checked there.
#pragma once

#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja::cuda {

void fill_value(const Context& ctx, const Tensor& x, float value);
void fill_zero(const Context& ctx, const Tensor& x);
void convert(const Context& ctx, const Tensor& in, const Tensor& out);
void add(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out);

}  // namespace forja::cuda
