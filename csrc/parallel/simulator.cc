// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/simulator.h"

#include <algorithm>
#include <numeric>

#include "csrc/parallel/schedule/execution.h"

namespace forja {
namespace {

// Of the stages with `counted`, from the timeline of their rank.
int peak_microbatches(const std::vector<TimedAction>& timeline, const std::vector<bool>& counted) {
  std::vector<std::pair<double, int>> changes;  // at one time, what ends goes first
  for (const TimedAction& timed : timeline) {
    if (!counted[size_t(timed.action.stage)]) continue;
    const ActionKind kind = timed.action.kind;
    if (kind == ActionKind::forward) changes.emplace_back(timed.begin, 1);
    if (kind == ActionKind::backward || kind == ActionKind::backward_weight)
      changes.emplace_back(timed.end, -1);
  }
  std::sort(changes.begin(), changes.end());
  int alive = 0, peak = 0;
  for (const auto& [time, change] : changes) peak = std::max(peak, alive += change);
  return peak;
}

void measure_peaks(const Schedule& schedule, Simulation& simulation) {
  const size_t num_stages = size_t(schedule.num_stages());
  for (size_t s = 0; s < num_stages; ++s) {
    std::vector<bool> counted(num_stages, false);
    counted[s] = true;
    simulation.peak_by_stage.push_back(
        peak_microbatches(simulation.timeline[size_t(schedule.rank_of_stage[s])], counted));
  }
  const std::vector<bool> all(num_stages, true);
  for (const std::vector<TimedAction>& timeline : simulation.timeline)
    simulation.peak_by_rank.push_back(peak_microbatches(timeline, all));
}

// Of a complete schedule with its transfers.
Simulation measure(const Schedule& schedule, const ActionTimes& times) {
  Execution execution(schedule, times, Delivery::queued);
  execution.run();
  Simulation out;
  out.timeline = execution.timeline();
  out.busy = execution.busy();
  for (std::vector<TimedAction>& timeline : out.timeline) {
    std::stable_sort(timeline.begin(), timeline.end(),
                     [](const TimedAction& a, const TimedAction& b) { return a.begin < b.begin; });
    for (const TimedAction& timed : timeline) out.makespan = std::max(out.makespan, timed.end);
  }
  const double busy = std::accumulate(out.busy.begin(), out.busy.end(), 0.0);
  if (out.makespan > 0.0)
    out.bubble_fraction = 1.0 - busy / (double(schedule.num_ranks()) * out.makespan);
  measure_peaks(schedule, out);
  return out;
}

}  // namespace

Simulation simulate(const Schedule& schedule, const ActionTimes& times) {
  if (!has_transfers(schedule)) return measure(add_communication(schedule), times);
  check_complete(schedule);
  return measure(schedule, times);
}

}  // namespace forja
