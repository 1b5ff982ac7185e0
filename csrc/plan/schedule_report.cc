// SPDX-License-Identifier: Apache-2.0
#include "forja/plan/schedule_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "forja/base/text.h"

namespace forja {
namespace {

std::string percent(double fraction) { return fmt::format("{:.1f} %", 100.0 * fraction); }

// At most two digits behind the point, and none that say nothing.
std::string number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

// The share of a rank's work in one of its stages.
double stage_share(const Schedule& schedule) {
  return double(schedule.num_ranks()) / double(schedule.num_stages());
}

bool has_overlaps(const Schedule& schedule) {
  for (const std::vector<Action>& list : schedule.actions) {
    for (const Action& action : list) {
      if (action.overlaps_next) return true;
    }
  }
  return false;
}

// Of GPipe and 1F1B alike.
double reference_bubble(const Schedule& schedule) {
  const double others = schedule.num_ranks() - 1;
  return others / (schedule.num_microbatches + others);
}

std::string rank_table(const Schedule& schedule, const Simulation& simulation) {
  std::string out = fmt::format("  {:<5} {:<16} {:>7} {:>12} {:>7} {:>7}\n", "rank", "stages",
                                "busy", "activations", "1f1b", "gpipe");
  const int num_ranks = schedule.num_ranks(), num_microbatches = schedule.num_microbatches;
  for (int rank = 0; rank < num_ranks; ++rank) {
    std::vector<std::string> stages;
    for (const int s : schedule.stages_of_rank(rank)) stages.push_back(std::to_string(s));
    const double peak = simulation.peak_by_rank[size_t(rank)] * stage_share(schedule);
    out += fmt::format("  {:<5} {:<16} {:>7} {:>12} {:>7} {:>7}\n", rank, join(stages, " "),
                       percent(simulation.busy[size_t(rank)] / simulation.makespan), number(peak),
                       std::min(num_microbatches, num_ranks - rank), num_microbatches);
  }
  return out;
}

}  // namespace

ActionTimes unit_times(const Schedule& schedule) {
  ActionTimes times;
  times.stage_scale.assign(size_t(schedule.num_stages()), stage_share(schedule));
  return times;
}

std::string describe_schedule(const Schedule& schedule, const Simulation& simulation) {
  std::string out = fmt::format("schedule        {}\n", schedule.name);
  out +=
      fmt::format("stages          {} on {} ranks\n", schedule.num_stages(), schedule.num_ranks());
  out += fmt::format("micro-batches   {}\n", schedule.num_microbatches);
  out += fmt::format(
      "makespan        {} (a rank's forward, input gradient and weight gradients of "
      "a micro-batch: 1 each)\n",
      number(simulation.makespan));
  out += fmt::format("bubble          {} of the ranks' time (gpipe and 1f1b: {})\n",
                     percent(simulation.bubble_fraction), percent(reference_bubble(schedule)));
  if (has_overlaps(schedule)) {
    out +=
        "overlap         a forward together with a backward is counted as the longer of them "
        "alone: the most that can be gained\n";
  }
  out +=
      "activations     micro-batches that a rank keeps at most, each of the rank's whole share of "
      "the model\n";
  return out + rank_table(schedule, simulation);
}

std::string summarize_schedule(const Schedule& schedule, const Simulation& simulation) {
  const int peak =
      *std::max_element(simulation.peak_by_rank.begin(), simulation.peak_by_rank.end());
  return fmt::format(
      "{}: {} stages on {} ranks, {} micro-batches; bubble {} (1f1b {}); a rank keeps at most {} "
      "micro-batches (1f1b {}){}",
      std::filesystem::path(schedule.name).filename().string(), schedule.num_stages(),
      schedule.num_ranks(), schedule.num_microbatches, percent(simulation.bubble_fraction),
      percent(reference_bubble(schedule)), number(peak * stage_share(schedule)),
      std::min(schedule.num_ranks(), schedule.num_microbatches),
      has_overlaps(schedule) ? "; an overlapped pair counts as the longer of the two" : "");
}

}  // namespace forja
