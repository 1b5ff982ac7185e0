// SPDX-License-Identifier: Apache-2.0
// Which ranks are slower than others that do the same work. What counts is a rank's own time: while
// it works, the others wait, so that whole steps take equally long everywhere.
#pragma once

#include <array>
#include <vector>

#include "forja/parallel/time_split.h"

namespace forja {

// What a rank does itself. Not `other`, in which a GPU waits for its host, and a rank for the last
// one at the end of a step.
inline constexpr std::array kOwnSections = {TimeKind::data, TimeKind::forward, TimeKind::backward,
                                            TimeKind::recompute, TimeKind::optimizer};

// Of a rank, the mean of a step.
struct RankTimes {
  std::array<float, kOwnSections.size()> section_s{};
  double own_s() const;
};

// How a rank stands among those of its pipeline stage.
struct RankStanding {
  double own_s = 0.0;
  double median_s = 0.0;  // of their own_s
  bool slow = false;
  TimeKind section{};  // with most of what it has above their medians
  double excess_s() const { return own_s - median_s; }
};

// ranks[i] is in stage stages[i]. Slow is whose own time is above the median of its stage by more
// than a tenth of it, and by more than 5 standard deviations, estimated by 1.4826 times the median
// absolute deviation, which slow ranks do not move while they are fewer than half (Rousseeuw and
// Croux, "Alternatives to the Median Absolute Deviation", 1993). Of an even number of values the
// lower middle one is the median: one slow rank of two is found. A stage of one rank has none.
std::vector<RankStanding> compare_ranks(const std::vector<RankTimes>& ranks,
                                        const std::vector<int>& stages);

}  // namespace forja
