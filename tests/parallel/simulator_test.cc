// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/simulator.h"

#include <numeric>

#include "tests/parallel/schedule_testing.h"

namespace forja {
namespace {

using testing::error_of;
using testing::for_random_cases;
using testing::ScheduleCase;

// "0F0 0-1" ...: computing and transfers with their times.
std::string text_of(const std::vector<TimedAction>& timeline) {
  std::string text;
  for (const TimedAction& t : timeline) {
    text +=
        fmt::format("{}{} {}-{}", text.empty() ? "" : ", ", t.action.to_string(), t.begin, t.end);
  }
  return text;
}

TEST(Simulate, TwoRanksByHand) {
  const Simulation s = simulate(make_schedule("1f1b", 2, 1, 2), {1.0, 1.0, 1.0, 0.0, {}});
  EXPECT_EQ(text_of(s.timeline[0]),
            "0F0 0-1, 0F1 1-2, 0SEND_F0 1-1, 0SEND_F1 2-2, 0RECV_B0 4-4, 0B0 4-6, "
            "0RECV_B1 7-7, 0B1 7-9");
  EXPECT_EQ(s.makespan, 9.0);
  EXPECT_EQ(s.busy, (std::vector<double>{6.0, 6.0}));
  EXPECT_DOUBLE_EQ(s.bubble_fraction, 1.0 / 3.0);
  EXPECT_EQ(s.peak_by_rank, (std::vector<int>{2, 1}));
}

TEST(Simulate, TransfersTakeTimeOneAfterTheOther) {
  // Rank 0 computes 0-1 and 1-2; its two sends take 1-4 and 4-7; both gradients come back.
  const Simulation s = simulate(make_schedule("gpipe", 2, 1, 2), {1.0, 1.0, 1.0, 3.0, {}});
  EXPECT_EQ(text_of(s.timeline[0]),
            "0F0 0-1, 0F1 1-2, 0SEND_F0 1-4, 0SEND_F1 4-7, 0RECV_B0 10-13, "
            "0RECV_B1 13-16, 0B0 13-15, 0B1 16-18");
  EXPECT_EQ(text_of(s.timeline[1]),
            "1RECV_F0 1-4, 1RECV_F1 4-7, 1F0 4-5, 1F1 7-8, 1B0 8-10, 1B1 10-12, 1SEND_B0 10-13, "
            "1SEND_B1 13-16");
}

TEST(Simulate, StagesMayDiffer) {
  // The second stage takes three times as long and sets the pace.
  const Simulation s = simulate(make_schedule("1f1b", 2, 1, 4), {1.0, 1.0, 1.0, 0.0, {1.0, 3.0}});
  EXPECT_EQ(s.makespan, 1.0 + 4 * 9.0 + 2.0);
  EXPECT_EQ(s.busy, (std::vector<double>{12.0, 36.0}));
  error_of([] { simulate(make_schedule("1f1b", 2, 1, 4), {1.0, 1.0, 1.0, 0.0, {1.0}}); });
}

TEST(Simulate, AnOverlappedPairTakesTheTimeOfTheLonger) {
  const Schedule schedule = parse_schedule("0F0,(0F1;0B0)OVERLAP_F_B,0B1\n", "s.csv", 1, 1, 2);
  const Simulation s = simulate(schedule, {5.0, 1.0, 1.0, 0.0, {}});
  EXPECT_EQ(text_of(s.timeline[0]), "0F0 0-5, 0F1 5-10, 0B0 5-10, 0B1 10-12");
  EXPECT_EQ(s.busy[0], 12.0);
  EXPECT_EQ(s.bubble_fraction, 0.0);
  EXPECT_EQ(s.peak_by_rank[0], 2);
}

TEST(Simulate, PeaksCountUntilTheWeightGradients) {
  const Schedule schedule =
      parse_schedule("0F0,0I0,0F1,0I1,0W0,0F2,0I2,0W1,0W2\n", "s.csv", 1, 1, 3);
  const Simulation s = simulate(schedule, {});
  EXPECT_EQ(s.peak_by_stage, (std::vector<int>{2}));
  // Of two stages, the worst moment of the sum.
  const Simulation v = simulate(make_schedule("zb_v", 1, 1, 4), {});
  EXPECT_EQ(v.peak_by_stage, (std::vector<int>{2, 1}));
  EXPECT_EQ(v.peak_by_rank, (std::vector<int>{2}));
}

TEST(Simulate, TakesStagesThatNeverMeet) {
  // Both stages on one of two ranks would need no transfer; each rank alone is as well.
  const Simulation s = simulate(make_schedule("zb_v", 1, 1, 2), {1.0, 1.0, 1.0, 9.0, {}});
  EXPECT_EQ(s.makespan, 12.0);
}

TEST(Simulate, IsConsistentForRandomTimes) {
  for_random_cases(150, [](const ScheduleCase& c, auto& random) {
    const auto draw = [&] { return double(random() % 1000 + 1) / 300.0; };
    const Schedule schedule = add_communication(c.make());
    ActionTimes times{draw(), draw(), draw(), draw() / 10, {}};
    for (int s = 0; s < schedule.num_stages(); ++s) times.stage_scale.push_back(draw());
    const Simulation result = simulate(schedule, times);
    for (size_t rank = 0; rank < result.timeline.size(); ++rank) {
      double computing = 0.0, queue = 0.0;
      bool pair = false;
      for (const TimedAction& t : result.timeline[rank]) {
        if (is_transfer(t.action.kind)) {
          ASSERT_GE(t.begin, queue) << "one at a time";
          ASSERT_NEAR(t.end - t.begin, times.transfer, 1e-9);
          queue = t.end;
          continue;
        }
        if (!pair) {
          ASSERT_GE(t.begin, computing) << t.action.to_string();
        }
        pair = t.action.overlaps_next;
        computing = t.end;
      }
      ASSERT_LE(result.busy[rank], result.makespan + 1e-9);
    }
    const double busy = std::accumulate(result.busy.begin(), result.busy.end(), 0.0);
    ASSERT_NEAR(result.bubble_fraction, 1 - busy / (c.num_ranks * result.makespan), 1e-12);
  });
}

// The order of a rank's list bounds its memory, whatever actions take.
TEST(Bounds, MemoryForRandomTimes) {
  for_random_cases(150, [](const ScheduleCase& c, auto& random) {
    const auto draw = [&] { return double(random() % 1000 + 1) / 300.0; };
    const Simulation s = simulate(c.make(), {draw(), draw(), draw(), draw() / 10, {}});
    for (int rank = 0; rank < c.num_ranks; ++rank)
      ASSERT_LE(s.peak_by_rank[size_t(rank)], testing::memory_bound(c, rank)) << "rank " << rank;
  });
}

// With forward, input gradient and weight gradients of the same time, in units of it: how long the
// rank that waits most waits.
double longest_wait(const ScheduleCase& c) {
  const int P = c.num_ranks, M = c.num_microbatches;
  if (c.name == "zb_h1") return P - 1 + std::max(P - M, 0);
  // Fewer micro-batches than come back before the first leaves cannot fill the pipeline.
  if (c.name == "zb_v") return std::max(P - 1, 4 * P - 2 - 2 * M);
  if (c.name == "dualpipe_v") return P - 1;
  return 3.0 * (P - 1);  // gpipe, 1f1b; of a whole rank's time / V where interleaved
}

TEST(Bounds, BubbleAndMemory) {
  for_random_cases(1000, [](const ScheduleCase& c, auto&) {
    const Simulation s = simulate(c.make(), {});
    const double least = *std::min_element(s.busy.begin(), s.busy.end());
    ASSERT_DOUBLE_EQ(s.makespan - least, longest_wait(c));
    const double P = c.num_ranks, M = c.num_microbatches, V = c.stages_per_rank();
    if (c.name == "gpipe" || c.name == "1f1b" || c.name == "interleaved_1f1b") {
      ASSERT_NEAR(s.bubble_fraction, (P - 1) / (V * M + P - 1), 1e-12);
    }
    for (int rank = 0; rank < c.num_ranks; ++rank)
      ASSERT_LE(s.peak_by_rank[size_t(rank)], testing::memory_bound(c, rank)) << "rank " << rank;
    // The first rank comes to the bound, but for few micro-batches.
    if (c.num_microbatches >= 2 * c.num_ranks) {
      ASSERT_EQ(s.peak_by_rank[0], testing::memory_bound(c, 0));
    }
  });
}

TEST(Bounds, ZeroBubbleSchedulesAgainst1f1b) {
  for (int P = 2; P <= 8; ++P) {
    for (int M = 2 * P; M <= 4 * P; ++M) {
      SCOPED_TRACE(fmt::format("P {} M {}", P, M));
      const auto wait = [&](const char* name, double per_stage) {
        ActionTimes times;
        times.stage_scale.assign(size_t(num_stages(name, P, 1)), per_stage);
        const Simulation s = simulate(make_schedule(name, P, 1, M), times);
        return s.makespan - s.busy[0];
      };
      const double reference = wait("1f1b", 1.0);
      EXPECT_DOUBLE_EQ(wait("zb_h1", 1.0), reference / 3);
      EXPECT_DOUBLE_EQ(wait("zb_v", 0.5), reference / 6) << "only until the last rank may begin";
      EXPECT_LE(wait("dualpipe_v", 0.5), reference / 6);
    }
  }
}

// (P - 1)(F + I - W) of the paper, where weight gradients take no longer than input gradients.
TEST(Bounds, ZbH1ForOtherTimes) {
  for (int P = 1; P <= 8; ++P) {
    for (const auto& [input, weight] : {std::pair(1.5, 0.5), {1.25, 0.75}, {1.0, 0.5}}) {
      const Simulation s =
          simulate(make_schedule("zb_h1", P, 1, 4 * P), {1.0, input, weight, 0.0, {}});
      EXPECT_DOUBLE_EQ(s.makespan - s.busy[0], (P - 1) * (1.0 + input - weight)) << P;
    }
  }
}

// (P - 1)(F&B + B - 3 W) of DualPipe's authors, where a forward takes no longer than an input
// gradient.
TEST(Bounds, DualPipeForOtherTimes) {
  for (int P = 1; P <= 8; ++P) {
    for (const auto& [forward, input] : {std::pair(1.0, 1.0), {1.0, 2.0}, {2.0, 2.0}, {1.0, 3.0}}) {
      const Simulation s =
          simulate(make_schedule("dualpipe_v", P, 1, 2 * P + 3), {forward, input, 1.0, 0.0, {}});
      const double both = input + 1.0, together = std::max(forward, both);
      for (const double busy : s.busy)
        EXPECT_LE(s.makespan - busy, (P - 1) * (together + both - 3.0)) << P;
    }
  }
}

// Transfers in the lists cost nothing where they take no time: data come when they are made.
TEST(Bounds, TransfersOfNoTimeDelayNothing) {
  for_random_cases(100, [](const ScheduleCase& c, auto&) {
    const Simulation s = simulate(add_communication(c.make()), {});
    std::vector<std::vector<double>> sent(size_t(num_stages(c.name, c.num_ranks, c.virtual_stages)),
                                          std::vector<double>(size_t(c.num_microbatches), -1));
    for (const auto& timeline : s.timeline) {
      for (const TimedAction& t : timeline) {
        if (t.action.kind == ActionKind::forward)
          sent[size_t(t.action.stage)][size_t(t.action.microbatch)] = t.end;
      }
    }
    for (const auto& timeline : s.timeline) {
      for (const TimedAction& t : timeline) {
        if (t.action.kind == ActionKind::send_activation && !t.action.overlaps_next) {
          ASSERT_EQ(t.begin, sent[size_t(t.action.stage)][size_t(t.action.microbatch)])
              << t.action.to_string();
        }
      }
    }
  });
}

}  // namespace
}  // namespace forja
