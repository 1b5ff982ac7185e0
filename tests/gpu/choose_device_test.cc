// SPDX-License-Identifier: Apache-2.0
// What is said where GPUs are too few or too old. With an emulated GPU alone, of which there is
// one.
#ifndef FORJA_REAL_GPU
#include "forja/train/choose_device.h"

#include "kernels/emulator/emulator.h"
#include "tests/testing/local_world.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::error_of;

std::string refusal(const TrainConfig& config, World& world) {
  return error_of([&] { choose_device(config, world); }, ExitCode::bad_input);
}

TEST(ChooseDevice, RanksShareAGpuOnlyWhereTheyMay) {
  testing::run_world(2, [](World& world) {
    TrainConfig config;
    const std::string error = refusal(config, world);
    EXPECT_NE(error.find("2 ranks on host"), std::string::npos) << error;
    EXPECT_NE(error.find("1 GPU x train.ranks_per_gpu 1 = 1"), std::string::npos) << error;
    config.ranks_per_gpu = 2;
    EXPECT_EQ(choose_device(config, world), (Device{DeviceKind::cuda, 0}));
    config.device = "cpu";
    EXPECT_TRUE(choose_device(config, world).is_cpu());
  });
}

TEST(ChooseDevice, OldGpus) {
  testing::run_world(1, [](World& world) {
    emulator::set_compute_capability(75);
    const std::string error = refusal({}, world);
    emulator::set_compute_capability(90);
    EXPECT_NE(error.find("compute capability 7.5, 8.0 or newer is needed"), std::string::npos)
        << error;
    EXPECT_FALSE(choose_device({}, world).is_cpu());
  });
}

TEST(ChooseDevice, EachRankTakesAGpuOfThoseItSees) {
  using Lists = std::vector<std::vector<std::string>>;
  const auto expect = [](const Lists& visible, int ranks_per_gpu, const std::vector<int>& places) {
    EXPECT_EQ(assign_gpus(visible, ranks_per_gpu), places);
  };
  // All of the host's, as under mpirun.
  expect({{"a", "b"}, {"a", "b"}}, 1, {0, 1});
  expect({{"a", "b"}, {"a", "b"}, {"a", "b"}, {"a", "b"}}, 2, {0, 0, 1, 1});
  // One each, as with srun --gpus-per-task=1.
  expect({{"a"}, {"b"}, {"c"}}, 1, {0, 0, 0});
  // The nearest first, as by --gpu-bind.
  expect({{"c", "d"}, {"c", "d"}, {"a", "b"}, {"a", "b"}}, 1, {0, 1, 0, 1});
  expect({{"a"}, {"a"}}, 1, {0, -1});
  expect({{"a"}, {}}, 2, {0, -1});
}

TEST(ChooseDevice, NcclWhereEveryRankHasAGpu) {
  const Device gpu{DeviceKind::cuda, 0};
  TrainConfig config;
  EXPECT_TRUE(uses_nccl("auto", config, gpu, 2));
  EXPECT_TRUE(uses_nccl("nccl", config, gpu, 2));
  EXPECT_FALSE(uses_nccl("mpi", config, gpu, 2));
  EXPECT_FALSE(uses_nccl("auto", config, gpu, 1));
  EXPECT_FALSE(uses_nccl("auto", config, {}, 2));
  error_of([&] { uses_nccl("nccl", config, {}, 2); }, ExitCode::bad_input);
  config.ranks_per_gpu = 2;
  EXPECT_FALSE(uses_nccl("auto", config, gpu, 2));
  error_of([&] { uses_nccl("nccl", config, gpu, 2); }, ExitCode::bad_input);
}

}  // namespace
}  // namespace forja
#endif
