// SPDX-License-Identifier: Apache-2.0
// ops/adamw.h on a GPU; arguments are checked there.
#pragma once

#include "forja/ops/adamw.h"

namespace forja::cuda {

void begin_adamw_step(const Context& ctx, const AdamWState& state);
void adamw_step(const Context& ctx, const AdamWState& state, const AdamWOptions& options,
                const Tensor& gradient, const Tensor& weight, const Tensor& first_moment,
                const Tensor& second_moment, const Tensor& compute_weight);

}  // namespace forja::cuda
