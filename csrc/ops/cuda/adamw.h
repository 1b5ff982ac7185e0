// SPDX-License-Identifier: Apache-2.0
// ops/adamw.h on a GPU; arguments are checked there.
#pragma once

#include "forja/ops/adamw.h"

namespace forja::cuda {

// The list's ranges as the kernels read them.
Tensor make_adamw_table(const Context& ctx, const AdamWList& list, Arena& arena);
void sum_of_squares(const Context& ctx, const AdamWList& list, const Tensor& sum);
void begin_adamw_step(const Context& ctx, const AdamWState& state);
void adamw_step(const Context& ctx, const AdamWState& state, const AdamWOptions& options,
                const AdamWList& list);

}  // namespace forja::cuda
