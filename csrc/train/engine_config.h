// SPDX-License-Identifier: Apache-2.0
// From the configuration of a run to that of its engine.
#pragma once

#include "forja/train/engine.h"
#include "forja/train/run_config.h"

namespace forja {

// On `device`, with `dp` data-parallel ranks.
EngineConfig engine_config(const RunConfig& config, Device device, int dp);

// check_layout() of every size of batch that the run will have: a schedule may need more
// micro-batches than the first ones have.
void check_layouts(const RunConfig& config, EngineConfig engine, const ParallelDims& dims);

}  // namespace forja
