// SPDX-License-Identifier: Apache-2.0
// Where a gradient that is not finite comes from. After the sums over ranks all have it; what a
// rank had before them names the one.
#pragma once

#include <string>

#include "forja/comm/world.h"
#include "forja/device/context.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

// Of a rank, after a step; a cause comes before its effects.
enum class NonFinite {
  weight,        // its shard of the weights
  own_gradient,  // what it gave to the sum over dp, where that is not overwritten: with ZeRO-1
  sum            // its shard of the summed gradients
};

// The first parameter of this rank with such an element: "layers.3.mlp.up.weight, element 17 of
// 4096" (of its part of the parameter); empty where there is none.
std::string first_non_finite(const Context& ctx, const ParameterStore& store, NonFinite what);

// Collective: what is not finite on the lowest rank that has such a thing, that rank and its host,
// and what to do. own_loss is StepResult's.
std::string explain_non_finite(const Context& ctx, const ParameterStore& store, double own_loss,
                               World& world);

}  // namespace forja
