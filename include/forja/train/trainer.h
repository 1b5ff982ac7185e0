// SPDX-License-Identifier: Apache-2.0
// A training run from its configuration to its last checkpoint.
#pragma once

#include <string>

#include "forja/base/error.h"
#include "forja/comm/world.h"
#include "forja/train/run_config.h"

namespace forja {

// Collective over the world. ok: all steps are done; preempted: SIGTERM, SIGUSR1 or the time limit
// stopped the run after a step, and a checkpoint of it was saved. Throws Error; with several ranks
// the caller ends the others.
ExitCode train(const RunConfig& config, World& world);

// What the run would use and do, in words; nothing is written, no data is read beyond manifests.
std::string describe_plan(const RunConfig& config, int num_ranks);

}  // namespace forja
