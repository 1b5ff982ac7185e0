// SPDX-License-Identifier: Apache-2.0
#include "forja/train/choose_device.h"

#include "forja/base/error.h"
#include "forja/device/gpu.h"
#include "forja/device/gpu_runtime.h"

namespace forja {

Device choose_device(const TrainConfig& config, World& world) {
  if (config.device == "cpu") return {};
  const int gpus = num_gpus(), ranks = world.local_size(), shared = int(config.ranks_per_gpu);
  if (gpus == 0 && config.device == "auto") return {};
  if (gpus == 0) fail_input("train.device is cuda, but GPUs: {}", survey_gpus().summary);
  if (ranks > gpus * shared) {
    fail_input(
        "{} ranks on host {}, but {} GPU{} x train.ranks_per_gpu {} = {}: start fewer ranks, let "
        "them share GPUs (train.ranks_per_gpu), or use train.device=cpu",
        ranks, world.hosts()[size_t(world.rank())], gpus, gpus == 1 ? "" : "s", shared,
        gpus * shared);
  }
  return {DeviceKind::cuda, int8_t(world.local_rank() / shared)};
}

Device planned_device(const TrainConfig& config) {
  const bool gpu = config.device == "cuda" || (config.device == "auto" && num_gpus() > 0);
  return gpu ? Device{DeviceKind::cuda, 0} : Device{};
}

}  // namespace forja
