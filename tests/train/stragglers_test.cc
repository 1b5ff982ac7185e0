// SPDX-License-Identifier: Apache-2.0
// Slow ranks are named, and no others.
#include "csrc/train/stragglers.h"

#include <chrono>
#include <random>
#include <thread>

#include "csrc/train/rank_watch.h"
#include "tests/testing/local_world.h"
#include "tests/testing/testing.h"
#include "tests/train/small_run.h"

namespace forja {
namespace {

// Of 1 s, with noise.
std::vector<RankTimes> equal_ranks(size_t count, double noise, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(1.0f, float(noise));
  std::vector<RankTimes> out(count);
  for (RankTimes& rank : out) {
    const float factor = normal(random);
    rank.section_s = {0.01f * factor, 0.3f * factor, 0.6f * factor, 0.0f, 0.09f * factor};
  }
  return out;
}

std::vector<size_t> slow_ones(const std::vector<RankStanding>& ranks) {
  std::vector<size_t> out;
  for (size_t r = 0; r < ranks.size(); ++r)
    if (ranks[r].slow) out.push_back(r);
  return out;
}

TEST(Stragglers, NoneAmongEqualRanks) {
  for (const size_t count : {1, 2, 3, 4, 8, 64, 10000}) {
    for (uint32_t seed = 0; seed < 20; ++seed) {
      const auto ranks = equal_ranks(count, 0.015, seed);
      EXPECT_EQ(slow_ones(compare_ranks(ranks, std::vector<int>(count, 0))), std::vector<size_t>{})
          << count << " ranks, seed " << seed;
    }
  }
  // Where the noise is larger than a tenth, it takes more to stand out: five standard deviations.
  const auto noisy = equal_ranks(1000, 0.15, 1);
  EXPECT_EQ(slow_ones(compare_ranks(noisy, std::vector<int>(1000, 0))), std::vector<size_t>{});
}

TEST(Stragglers, SlowRanksAreFoundWithTheirSection) {
  for (const size_t count : {2, 3, 4, 8, 1000}) {
    auto ranks = equal_ranks(count, 0.01, 5);
    ranks[1].section_s[2] *= 1.5f;  // backward
    const auto found = compare_ranks(ranks, std::vector<int>(count, 0));
    ASSERT_EQ(slow_ones(found), std::vector<size_t>{1}) << count;
    EXPECT_EQ(found[1].section, TimeKind::backward);
    EXPECT_NEAR(found[1].excess_s(), 0.3, 0.1);
    EXPECT_NEAR(found[1].median_s, 1.0, 0.05);
  }
  // Just below half of them.
  auto ranks = equal_ranks(9, 0.01, 6);
  for (const size_t r : {0, 3, 4, 8}) ranks[r].section_s[0] += 0.4f;  // data
  const auto found = compare_ranks(ranks, std::vector<int>(9, 0));
  EXPECT_EQ(slow_ones(found), (std::vector<size_t>{0, 3, 4, 8}));
  EXPECT_EQ(found[3].section, TimeKind::data);
}

TEST(Stragglers, RanksAreComparedWithinTheirStage) {
  auto ranks = equal_ranks(8, 0.01, 7);
  std::vector<int> stages;
  for (size_t r = 0; r < 8; ++r) {
    stages.push_back(int(r / 4));
    for (float& s : ranks[r].section_s) s *= r < 4 ? 1.0f : 3.0f;  // the head's stage
  }
  EXPECT_EQ(slow_ones(compare_ranks(ranks, stages)), std::vector<size_t>{});
  ranks[6].section_s[1] *= 1.5f;
  EXPECT_EQ(slow_ones(compare_ranks(ranks, stages)), std::vector<size_t>{6});
  EXPECT_EQ(slow_ones(compare_ranks({ranks[0], ranks[7]}, {0, 1})), std::vector<size_t>{})
      << "who has no peer is not compared";
}

// Rank 1 of 4 is slow in steps 1 to 9; the comparisons are of steps 2 to 5, 6 to 9 and 10 to 13.
TEST(RankWatch, ASlowRankIsNamedOnce) {
  std::vector<std::string> lines;
  ::testing::internal::CaptureStderr();
  testing::run_world(4, [&](World& world) {
    RankWatch watch(4, {}, ParallelDims{.dp = 4, .dp_shard = 4}, world);
    for (int64_t step = 1; step <= 13; ++step) {
      StepResult result;
      const bool slow = world.rank() == 1 && step <= 9;
      result.rank_time_s[size_t(TimeKind::forward)] = slow ? 0.045 : 0.03;
      result.rank_time_s[size_t(TimeKind::wait_dp)] = slow ? 0.0 : 0.015;
      result.time_s[size_t(TimeKind::forward)] = step == 1 ? 1e9 : 0.05;
      const auto line = watch.add(step, result);
      if (line && world.rank() == 0) lines.push_back(*line);
    }
    RankWatch never(0, {}, ParallelDims{.dp = 4, .dp_shard = 4}, world);
    for (int64_t step = 1; step <= 13; ++step) EXPECT_FALSE(never.add(step, {}));
  });
  const std::string log = ::testing::internal::GetCapturedStderr();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1], R"({"step":9,"steps":4,"step_ms":50.0,"own_ms":[30.0,45.0,30.0,30.0],)"
                      R"("above":[0,50,0,0],"slow":[1],"sections_ms":{"data":[0.0,0.0,0.0,0.0],)"
                      R"("forward":[30.0,45.0,30.0,30.0],"backward":[0.0,0.0,0.0,0.0],)"
                      R"("recompute":[0.0,0.0,0.0,0.0],"optimizer":[0.0,0.0,0.0,0.0]}})");
  EXPECT_NE(lines[2].find(R"("slow":[])"), std::string::npos) << lines[2];
  EXPECT_NE(log.find("steps 2 to 5: 1 of 4 ranks works slowly: rank 1 (local) 45.0 ms a step, 50 % "
                     "above the others, most in forward; each step loses up to 15.0 ms of 50.0 to "
                     "it"),
            std::string::npos)
      << log;
  EXPECT_EQ(log.find("steps 6 to 9"), std::string::npos) << "nothing new";
  EXPECT_NE(log.find("steps 10 to 13: no rank is slower than the others any more"),
            std::string::npos)
      << log;
}

// Who waits for a rank that waits for its data does not work meanwhile.
TEST(RankWatch, OwnTimesOfAStepAreThoseOfTheRank) {
  const Layout layout{.dp = 2, .layers = 2};
  testing::run_world(2, [&](World& world) {
    const EngineConfig config = config_of(layout);
    Mesh mesh = make_mesh(world.communicator(), ParallelDims::from(config.parallel, 2),
                          mesh_options(config));
    const MemoryPlan plan = TrainEngine::plan(config, mesh.dims, world.rank());
    TrainEngine engine(config, mesh, &plan);
    engine.store().initialize(engine.context(), 1);
    engine.weights_changed();
    const StepResult result = engine.step(
        1, 1e-3, 4,
        [&](int64_t m, const MicroBatch& b) {
          if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(500));
          return fill(config.model.vocab_size, 1, 4 * world.rank() + m, b);
        },
        [](int64_t m) { return m * 16; });
    const double mine = result.rank_time_s[size_t(TimeKind::data)],
                 mean = result.time_s[size_t(TimeKind::data)];
    if (world.rank() == 1) {
      EXPECT_GE(mine, 2.0);
    } else {
      EXPECT_LT(mine, 1.0);
    }
    EXPECT_GE(mean, 1.0);
    EXPECT_LT(mean, 1.9) << "of both";
  });
}

}  // namespace
}  // namespace forja
