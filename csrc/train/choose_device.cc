// SPDX-License-Identifier: Apache-2.0
#include "forja/train/choose_device.h"

#include "forja/base/error.h"
#include "forja/base/log.h"
#include "forja/device/gpu.h"
#include "forja/device/gpu_runtime.h"

namespace forja {

namespace {

constexpr int kOldestCapability = 80;

// The rank's GPU, or the CPU where none can be used and that is allowed.
Device find_gpu(const TrainConfig& config, World& world) {
  const int gpus = num_gpus(), ranks = world.local_size(), shared = int(config.ranks_per_gpu);
  if (gpus == 0) {
    const GpuSurvey survey = survey_gpus();
    if (config.device == "cuda")
      fail_input("train.device is cuda, but GPUs: {} ({})", survey.summary, why_no_gpus());
    if (!survey.gpus.empty() && world.rank() == 0)
      log_warning("computing on the CPU: {}, but {}", survey.summary, why_no_gpus());
    return {};
  }
  if (ranks > gpus * shared) {
    fail_input(
        "{} ranks on host {}, but {} GPU{} x train.ranks_per_gpu {} = {}: start fewer ranks, let "
        "them share GPUs (train.ranks_per_gpu), or use train.device=cpu",
        ranks, world.hosts()[size_t(world.rank())], gpus, gpus == 1 ? "" : "s", shared,
        gpus * shared);
  }
  return {DeviceKind::cuda, int8_t(world.local_rank() / shared)};
}

}  // namespace

Device choose_device(const TrainConfig& config, World& world) {
  if (config.device == "cpu") return {};
  const Device device = find_gpu(config, world);
  if (device.is_cpu()) return device;
  const int capability = gpu_compute_capability(device);
  if (capability < kOldestCapability) {
    fail_input(
        "GPU {} of host {} has compute capability {}.{}, {}.{} or newer is needed (A100, H100); "
        "train.device=cpu computes without it",
        int(device.index), world.hosts()[size_t(world.rank())], capability / 10, capability % 10,
        kOldestCapability / 10, kOldestCapability % 10);
  }
  return device;
}

Device planned_device(const TrainConfig& config) {
  const bool gpu = config.device == "cuda" || (config.device == "auto" && num_gpus() > 0);
  return gpu ? Device{DeviceKind::cuda, 0} : Device{};
}

std::string describe_device(Device device) {
  if (device.is_cpu()) return "cpu";
  const std::vector<std::string> gpus = survey_gpus().gpus;
  return size_t(device.index) < gpus.size() ? gpus[size_t(device.index)] : "gpu";
}

}  // namespace forja
