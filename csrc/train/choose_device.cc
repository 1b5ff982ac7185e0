// SPDX-License-Identifier: Apache-2.0
#include "forja/train/choose_device.h"

#include <algorithm>
#include <map>
#include <set>

#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/base/log.h"
#include "forja/device/gpu.h"
#include "forja/device/gpu_runtime.h"

namespace forja {

namespace {

constexpr int kOldestCapability = 80;
constexpr int kMostGpus = 16;  // of a host, that a rank tells the others of

// What a rank sees, as numbers that the ranks of a host can compare.
struct Sight {
  int64_t count = 0;
  uint64_t gpus[kMostGpus] = {};
};

std::vector<Sight> gather_sights(World& world) {
  Sight mine;
  mine.count = std::min(num_gpus(), kMostGpus);
  for (int64_t i = 0; i < mine.count; ++i)
    mine.gpus[i] = hash_text(gpu_uuid({DeviceKind::cuda, int8_t(i)}));
  std::vector<Sight> all(size_t(world.size()));
  const auto bytes = [](Sight* sights, int64_t count) {
    return make_tensor(sights, DType::u8, {count * int64_t(sizeof(Sight))});
  };
  world.communicator()
      .all_gather(bytes(&mine, 1), bytes(all.data(), world.size()), {"GPUs"})
      .wait();
  return all;
}

// No rank sees a GPU, or this one none: the CPU, where that is allowed.
Device without_gpu(const TrainConfig& config, World& world, bool others_have) {
  const GpuSurvey survey = survey_gpus();
  const std::string& host = world.hosts()[size_t(world.rank())];
  if (config.device == "cuda")
    fail_input("train.device is cuda, but GPUs on host {}: {} ({})", host, survey.summary,
               why_no_gpus());
  if (others_have)
    fail_input(
        "rank {} on host {} sees no GPU, other ranks do ({}: {}); train.device=cpu uses none",
        world.rank(), host, survey.summary, why_no_gpus());
  if (!survey.gpus.empty() && world.rank() == 0)
    log_warning("computing on the CPU: {}, but {}", survey.summary, why_no_gpus());
  return {};
}

// The rank's GPU, or the CPU where none can be used and that is allowed.
Device find_gpu(const TrainConfig& config, World& world) {
  const std::vector<Sight> sights = gather_sights(world);
  const Sight& mine = sights[size_t(world.rank())];
  if (mine.count == 0) {
    const bool others =
        std::any_of(sights.begin(), sights.end(), [](const Sight& s) { return s.count > 0; });
    return without_gpu(config, world, others);
  }
  std::vector<std::vector<std::string>> visible;
  std::set<std::string> gpus;
  for (int r = 0; r < world.size(); ++r) {
    if (world.hosts()[size_t(r)] != world.hosts()[size_t(world.rank())]) continue;
    auto& list = visible.emplace_back();
    for (int64_t i = 0; i < sights[size_t(r)].count; ++i)
      list.push_back(std::to_string(sights[size_t(r)].gpus[i]));
    gpus.insert(list.begin(), list.end());
  }
  const int shared = int(config.ranks_per_gpu);
  const std::vector<int> assigned = assign_gpus(visible, shared);
  if (std::count(assigned.begin(), assigned.end(), -1) > 0) {
    fail_input(
        "{} ranks on host {}, but {} GPU{} x train.ranks_per_gpu {} = {}: start fewer ranks, let "
        "them share GPUs (train.ranks_per_gpu), or use train.device=cpu",
        visible.size(), world.hosts()[size_t(world.rank())], gpus.size(),
        gpus.size() == 1 ? "" : "s", shared, gpus.size() * size_t(shared));
  }
  return {DeviceKind::cuda, int8_t(assigned[size_t(world.local_rank())])};
}

}  // namespace

std::vector<int> assign_gpus(const std::vector<std::vector<std::string>>& visible,
                             int ranks_per_gpu) {
  std::map<std::string, int> uses;
  std::vector<int> out;
  for (const std::vector<std::string>& gpus : visible) {
    const auto free = std::find_if(gpus.begin(), gpus.end(), [&](const std::string& gpu) {
      return uses[gpu] < ranks_per_gpu;
    });
    if (free != gpus.end()) ++uses[*free];
    out.push_back(free == gpus.end() ? -1 : int(free - gpus.begin()));
  }
  return out;
}

bool uses_nccl(const std::string& communicator, const TrainConfig& config, Device device,
               int num_ranks) {
  if (communicator == "nccl") {
    if (device.is_cpu())
      fail_input(
          "parallel.communicator is nccl, but the ranks compute on the CPU; use mpi or auto");
    if (config.ranks_per_gpu > 1)
      fail_input(
          "parallel.communicator is nccl, but train.ranks_per_gpu is {}: NCCL needs a GPU for each "
          "rank; use mpi or auto",
          config.ranks_per_gpu);
  }
  return num_ranks > 1 && !device.is_cpu() && config.ranks_per_gpu == 1 && communicator != "mpi";
}

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
