// SPDX-License-Identifier: Apache-2.0
// Training on a GPU (emulated, or a real one) follows training on the CPU: the same engine, other
// ops. Ranks share the GPU; what they exchange goes through host memory, or by a NCCL of our own.
#include "csrc/comm/nccl/nccl_communicator.h"
#include "forja/device/gpu_runtime.h"
#include "tests/testing/fake_nccl.h"
#include "tests/testing/model_testing.h"
#include "tests/testing/testing.h"
#include "tests/train/run_layout.h"

namespace forja {
namespace {

constexpr Device kGpu{DeviceKind::cuda, 0};

void expect_follows(Layout layout, double bound, const MakeRanks& make_ranks = nullptr) {
  if (num_gpus() == 0) GTEST_SKIP() << "needs a GPU";
  layout.layers = 4;
  layout.steps = 4;
  layout.batch = 4;
  const Result expected = train(layout);
  layout.device = kGpu;
  const Result found = train(layout, make_ranks);
  ASSERT_EQ(found.losses.size(), expected.losses.size());
  for (size_t i = 0; i < expected.losses.size(); ++i) {
    EXPECT_NEAR(found.losses[i] / expected.losses[i], 1.0, bound) << "step " << i + 1;
    EXPECT_NEAR(found.norms[i] / expected.norms[i], 1.0, 10 * bound) << "step " << i + 1;
  }
  EXPECT_NEAR(found.evaluation / expected.evaluation, 1.0, bound);
  EXPECT_LT(expected.margin, 0.0);
  EXPECT_NEAR(found.margin / expected.margin, 1.0, bound);
  EXPECT_EQ(found.initial.size(), expected.initial.size());
  for (const auto& [name, values] : expected.initial)
    EXPECT_LT(
        testing::relative_norm({values.begin(), values.end()},
                               {found.initial.at(name).begin(), found.initial.at(name).end()}),
        1e-6)
        << name;
}

// Both sides round the same sums in other orders.
constexpr double kFp32 = 1e-5;
// Roundings to 2^-9 of activations, averaged over 60 targets.
constexpr double kBf16 = 3e-3;

TEST(GpuTraining, Llama) { expect_follows({}, kFp32); }
TEST(GpuTraining, Gpt2WithDropout) { expect_follows({.gpt2 = true, .dropout = 0.1}, kFp32); }
TEST(GpuTraining, LlamaInBf16) { expect_follows({.compute_dtype = DType::bf16}, kBf16); }
TEST(GpuTraining, Gpt2InBf16) {
  expect_follows({.gpt2 = true, .compute_dtype = DType::bf16}, kBf16);
}
// The same words are drawn on both sides. Where their sums differ in the last bits, a moment is now
// and then rounded to the other neighbour, 2^-8 of it away.
TEST(GpuTraining, Bf16MomentsRoundedStochastically) {
  expect_follows({.tp = 2, .moment_dtype = DType::bf16, .stochastic = true}, kFp32);
}
// A checkpoint's numbers are rounded on the host, where they are.
TEST(GpuTraining, Bf16MomentsAreLoaded) {
  if (num_gpus() == 0) GTEST_SKIP() << "needs a GPU";
  const EngineConfig config = config_of({.device = kGpu, .moment_dtype = DType::bf16, .layers = 1});
  const auto self = make_self_communicator();
  Mesh mesh = make_mesh(*self, ParallelDims{}, mesh_options(config));
  const MemoryPlan plan = TrainEngine::plan(config);
  TrainEngine engine(config, mesh, &plan);
  for (const auto& p : engine.store().all()) {
    std::vector<float> full(size_t(p->spec.num_elements()));
    for (size_t i = 0; i < full.size(); ++i) full[i] = 0.37f * float(i);
    set_from_full(engine.context(), *p, StateKind::second_moment, full.data());
    std::vector<BFloat16> found(full.size());
    copy_bytes(engine.context(), found.data(), p->second_moment.data, int64_t(2 * full.size()));
    synchronize(engine.context());
    for (size_t i = 0; i < full.size(); ++i)
      ASSERT_EQ(found[i].bits, BFloat16(full[i]).bits) << p->spec.name << ", element " << i;
  }
}
TEST(GpuTraining, RecomputeInFull) { expect_follows({.recompute = "full"}, kFp32); }
TEST(GpuTraining, TensorParallel) { expect_follows({.tp = 2}, kFp32); }
TEST(GpuTraining, PipelineOfATiedModel) {
  expect_follows({.gpt2 = true, .pp = 2, .schedule = "zb_h1"}, kFp32);
}
TEST(GpuTraining, ZeroThree) { expect_follows({.dp = 2, .zero = 3}, kFp32); }
TEST(GpuTraining, EveryAxis) {
  expect_follows({.tp = 2, .pp = 2, .dp = 2, .zero = 1, .schedule = "1f1b"}, kFp32);
}

#ifndef FORJA_REAL_GPU  // which has no NCCL for ranks that share a GPU
std::unique_ptr<Communicator> make_nccl(Communicator& world) {
  return make_nccl_communicator(world, kGpu, "here", testing::fake_nccl());
}

TEST(GpuTraining, TensorParallelOverNccl) { expect_follows({.tp = 2}, kFp32, make_nccl); }
TEST(GpuTraining, PipelineOverNccl) {
  expect_follows({.gpt2 = true, .pp = 2, .schedule = "zb_h1"}, kFp32, make_nccl);
}
TEST(GpuTraining, ZeroThreeOverNccl) { expect_follows({.dp = 2, .zero = 3}, kFp32, make_nccl); }
TEST(GpuTraining, EveryAxisOverNccl) {
  expect_follows({.tp = 2, .pp = 2, .dp = 2, .zero = 2, .schedule = "1f1b"}, kFp32, make_nccl);
}
#endif

}  // namespace
}  // namespace forja
