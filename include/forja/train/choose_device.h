// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run compute on.
#pragma once

#include <string>
#include <vector>

#include "forja/comm/world.h"
#include "forja/device/device.h"
#include "forja/train/run_config.h"

namespace forja {

// The CPU, or this rank's GPU of the host: ranks take GPUs in the order of their numbers there,
// each among those that it sees. Collective. Throws bad_input where GPUs are wanted but there are
// too few, or some ranks have GPUs and others have none.
Device choose_device(const TrainConfig& config, World& world);

// For each rank of a host, in order, the place in the list of GPUs that it sees of the first one
// which fewer than `ranks_per_gpu` ranks before it took; -1 where there is none. visible[rank]:
// names of GPUs. Launchers may show every rank all GPUs of the host, or its own alone.
std::vector<int> assign_gpus(const std::vector<std::vector<std::string>>& visible,
                             int ranks_per_gpu);

// Whether GPU tensors go between the ranks by NCCL. Throws bad_input where that is asked for and
// cannot be.
bool uses_nccl(const std::string& communicator, const TrainConfig& config, Device device,
               int num_ranks);

// The same for a run that is only planned: a GPU where the configuration says so, or leaves the
// choice and one is here.
Device planned_device(const TrainConfig& config);

// "cpu", or what the driver says of the GPU.
std::string describe_device(Device device);

}  // namespace forja
