// SPDX-License-Identifier: Apache-2.0
// What a run says of its parameters, held against those that the model has.
#pragma once

#include "forja/base/config.h"
#include "forja/train/run_config.h"

namespace forja {

// A fault of the configuration, naming what there is: for a target of adapters or a pattern that
// matches nothing, for frozen parameters whose weights come from nowhere, and where nothing is left
// to be trained.
void check_rules(ConfigVisitor& v, const RunConfig& run);

// Parameters that the run trains.
int64_t count_trained(const RunConfig& run);

}  // namespace forja
