// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run compute on.
#pragma once

#include <string>

#include "forja/comm/world.h"
#include "forja/device/device.h"
#include "forja/train/run_config.h"

namespace forja {

// The CPU, or this rank's GPU of the host: ranks take GPUs in the order of their numbers there.
// Throws bad_input where GPUs are wanted but there are too few.
Device choose_device(const TrainConfig& config, World& world);

// The same for a run that is only planned: a GPU where the configuration says so, or leaves the
// choice and one is here.
Device planned_device(const TrainConfig& config);

// "cpu", or what the driver says of the GPU.
std::string describe_device(Device device);

}  // namespace forja
