// SPDX-License-Identifier: Apache-2.0
// Compares the ranks' own times every so many steps (train.compare_ranks_every), and names the slow
// ones with their host and device, once each time that others are slow.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "csrc/train/stragglers.h"
#include "forja/comm/world.h"
#include "forja/device/device.h"
#include "forja/parallel/parallel_dims.h"
#include "forja/train/engine.h"

namespace forja {

class RankWatch {
 public:
  // Collective. The world is not owned; every: 0 for never, as for a world of one.
  RankWatch(int64_t every, Device device, const ParallelDims& dims, World& world);

  // Takes a step. At the end of a comparison, which is collective: its line of ranks.jsonl, on
  // every rank the same:
  //   step, steps   the last one, and how many
  //   step_ms       mean time of a step
  //   own_ms        [rank] mean own time of a step
  //   above         [rank] per cent by which that is above the median of the rank's stage
  //   slow          the ranks that were named
  //   sections_ms   {section: [rank]} of up to 1024 ranks
  // The first step of a process counts nowhere: it also pays for everything that happens once.
  std::optional<std::string> add(int64_t step, const StepResult& result);

 private:
  std::vector<RankTimes> gather(int64_t step);
  void tell(int64_t step, const std::vector<RankStanding>& ranks);
  std::string describe(size_t rank, const RankStanding& standing) const;
  double step_s() const { return step_sum_s_ / double(num_steps_); }

  const int64_t every_;
  World& world_;
  std::vector<int> stages_;   // by rank
  std::vector<int> devices_;  // by rank; -1: the CPU
  int64_t num_steps_ = -1;    // of the comparison under way; -1: the first is to come
  std::array<double, kOwnSections.size()> section_sum_s_{};
  double step_sum_s_ = 0.0;
  std::vector<size_t> told_;  // the slow ranks of the last comparison
};

}  // namespace forja
