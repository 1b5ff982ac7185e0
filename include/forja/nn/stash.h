// SPDX-License-Identifier: Apache-2.0
// What a layer keeps from forward to backward, and who reads it.
#pragma once

#include <vector>

#include "forja/tensor/tensor.h"

namespace forja {

enum class StashUse {
  input_gradient,          // read by backward_input
  weight_gradient,         // read by backward_weight
  both_gradients,          // read by both
  made_by_input_gradient,  // made by backward_input for backward_weight
};

struct StashEntry {
  const char* name;
  Tensor tensor;
  StashUse use;
};
using StashEntries = std::vector<StashEntry>;

}  // namespace forja
