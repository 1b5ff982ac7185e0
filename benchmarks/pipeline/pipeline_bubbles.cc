// SPDX-License-Identifier: Apache-2.0
// pipeline_bubbles [RUNS [MILLISECONDS]]: runs every pipeline schedule on 4 ranks (threads) through
// the executor of training, with sleeps for computing, and prints makespan, bubble and
// micro-batches alive beside what the simulator says. Sleeping ranks need no core: the ranks may be
// more than these, and what is measured is the order of actions and the cost of transfers and
// waiting.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "tests/testing/sleeping_pipeline.h"

namespace {

using namespace forja;

constexpr int kRanks = 4;

struct Choice {
  const char* name;
  int virtual_stages;
};
constexpr Choice kChoices[] = {{"gpipe", 1}, {"1f1b", 1}, {"interleaved_1f1b", 2},
                               {"zb_h1", 1}, {"zb_v", 1}, {"dualpipe_v", 1}};

// In micro-batches of a rank's whole share of the model.
std::string peaks(const std::vector<int>& by_rank, int stages_of_rank) {
  std::string out;
  for (const int peak : by_rank)
    out += fmt::format("{}{}", out.empty() ? "" : " ", double(peak) / stages_of_rank);
  return out;
}

void measure(const Choice& choice, int num_microbatches, int runs, double seconds) {
  const Schedule schedule =
      make_executor_schedule(choice.name, kRanks, choice.virtual_stages, num_microbatches);
  const ActionTimes times = testing::times_of_equal_stages({seconds, seconds, seconds}, schedule);
  const Simulation simulation = simulate(schedule, times);
  std::vector<double> makespans, bubbles;
  std::string alive;
  for (int i = 0; i < runs; ++i) {
    const testing::PipelineRun run = testing::run_sleeping(schedule, times);
    makespans.push_back(run.makespan());
    bubbles.push_back(run.bubble_fraction());
    alive = peaks(run.peak_by_rank, schedule.num_stages() / kRanks);
  }
  std::sort(makespans.begin(), makespans.end());
  std::sort(bubbles.begin(), bubbles.end());
  const size_t median = makespans.size() / 2;
  fmt::print(
      "| `{}` | {} | {:.0f} | {:.1f} ({:.1f}-{:.1f}) | {:.1f} % | {:.1f} % ({:.1f}-{:.1f}) | {} "
      "|\n",
      choice.name, num_microbatches, 1e3 * simulation.makespan, 1e3 * makespans[median],
      1e3 * makespans.front(), 1e3 * makespans.back(), 100 * simulation.bubble_fraction,
      100 * bubbles[median], 100 * bubbles.front(), 100 * bubbles.back(), alive);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::atoi(argv[1]) : 3;
  const double milliseconds = argc > 2 ? std::atof(argv[2]) : 10.0;
  if (argc > 3 || runs < 1 || !(milliseconds > 0.0)) {
    std::fprintf(stderr, "usage: pipeline_bubbles [RUNS [MILLISECONDS]]\n");
    return 2;
  }
  try {
    fmt::print(
        "| schedule | M | makespan, simulated (ms) | measured | bubble, simulated | measured | "
        "alive "
        "on ranks 0 to {} |\n| --- | --- | --- | --- | --- | --- | --- |\n",
        kRanks - 1);
    for (const int num_microbatches : {8, 16})
      for (const Choice& choice : kChoices)
        measure(choice, num_microbatches, runs, 1e-3 * milliseconds);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
  return 0;
}
