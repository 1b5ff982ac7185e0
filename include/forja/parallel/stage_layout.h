// SPDX-License-Identifier: Apache-2.0
// Which layers each stage of a pipeline has.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "forja/parallel/parallel_config.h"

namespace forja {

// [first, last) of the layers of each stage: config.stage_layers, or as even as possible. Throws
// bad_input when there are more stages than layers, or stage_layers does not fit.
std::vector<std::pair<int64_t, int64_t>> layers_of_stages(const ParallelConfig& config,
                                                          int64_t num_layers, int num_stages);

}  // namespace forja
