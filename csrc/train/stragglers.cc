// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/stragglers.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>

namespace forja {
namespace {

constexpr double kLeastShare = 0.1, kDeviations = 5.0, kMadToDeviation = 1.4826;

double lower_median(std::vector<double> values) {
  const auto middle = values.begin() + int64_t(values.size() - 1) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void compare_stage(const std::vector<RankTimes>& ranks, const std::vector<size_t>& members,
                   std::vector<RankStanding>& out) {
  const auto median_of = [&](const auto& value) {
    std::vector<double> values;
    for (size_t r : members) values.push_back(value(r));
    return lower_median(std::move(values));
  };
  const double median = median_of([&](size_t r) { return ranks[r].own_s(); });
  const double mad = median_of([&](size_t r) { return std::fabs(ranks[r].own_s() - median); });
  const double least = std::max(kLeastShare * median, kDeviations * kMadToDeviation * mad);
  std::array<double, kOwnSections.size()> section_median{};
  for (size_t s = 0; s < kOwnSections.size(); ++s)
    section_median[s] = median_of([&](size_t r) { return double(ranks[r].section_s[s]); });
  for (size_t r : members) {
    RankStanding& standing = out[r];
    standing.own_s = ranks[r].own_s();
    standing.median_s = median;
    standing.slow = standing.excess_s() > least;
    const auto excess = [&](size_t s) { return ranks[r].section_s[s] - section_median[s]; };
    size_t most = 0;
    for (size_t s = 1; s < kOwnSections.size(); ++s)
      if (excess(s) > excess(most)) most = s;
    standing.section = kOwnSections[most];
  }
}

}  // namespace

double RankTimes::own_s() const { return std::accumulate(section_s.begin(), section_s.end(), 0.0); }

std::vector<RankStanding> compare_ranks(const std::vector<RankTimes>& ranks,
                                        const std::vector<int>& stages) {
  std::map<int, std::vector<size_t>> members;
  for (size_t r = 0; r < ranks.size(); ++r) members[stages[r]].push_back(r);
  std::vector<RankStanding> out(ranks.size());
  for (const auto& [stage, of_stage] : members) compare_stage(ranks, of_stage, out);
  return out;
}

}  // namespace forja
