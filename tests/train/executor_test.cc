// SPDX-License-Identifier: Apache-2.0
#include "forja/train/executor.h"

#include "tests/testing/sleeping_pipeline.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

std::vector<std::string> computing(const std::vector<TimedAction>& timeline) {
  std::vector<std::string> out;
  for (const TimedAction& timed : timeline)
    if (is_computing(timed.action.kind)) out.push_back(timed.action.to_string());
  return out;
}

// The order in which ranks work, what they hand to each other (checked by the work itself) and what
// they keep is the simulator's, however late a loaded machine wakes them. A sleep never ends early:
// nor does the run.
TEST(PipelineExecutor, RunsEveryScheduleAsTheSimulatorDoes) {
  for (const auto& [name, virtual_stages] : {std::pair("gpipe", 1),
                                             {"1f1b", 1},
                                             {"interleaved_1f1b", 2},
                                             {"zb_h1", 1},
                                             {"zb_v", 1},
                                             {"dualpipe_v", 1}}) {
    SCOPED_TRACE(name);
    const Schedule schedule = make_executor_schedule(name, 4, virtual_stages, 8);
    const ActionTimes times = testing::times_of_equal_stages({0.002, 0.002, 0.002}, schedule);
    const Simulation simulation = simulate(schedule, times);
    const testing::PipelineRun run = testing::run_sleeping(schedule, times);
    for (size_t rank = 0; rank < 4; ++rank)
      EXPECT_EQ(computing(run.timeline[rank]), computing(simulation.timeline[rank])) << rank;
    EXPECT_EQ(run.peak_by_rank, simulation.peak_by_rank);
    EXPECT_GE(run.makespan(), simulation.makespan - 1e-6);  // of rounding
  }
}

}  // namespace
}  // namespace forja
