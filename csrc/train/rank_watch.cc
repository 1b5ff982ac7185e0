// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/rank_watch.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "forja/base/log.h"
#include "forja/base/text.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostNamed = 4;        // in a warning
constexpr size_t kMostDetailed = 1024;  // ranks whose sections are written

// To a microsecond or four digits, whichever is shorter: the line is as long as there are ranks.
double milliseconds(double seconds) {
  const double us = std::round(seconds * 1e6);
  const double unit = us >= 1e5 ? std::pow(10.0, std::floor(std::log10(us)) - 3.0) : 1.0;
  return std::round(us / unit) * unit / 1e3;
}

int64_t percent_above(const RankStanding& s) {
  return s.median_s > 0.0 ? std::lround(100.0 * s.excess_s() / s.median_s) : 0;
}

}  // namespace

RankWatch::RankWatch(int64_t every, Device device, const ParallelDims& dims, World& world)
    : every_(world.size() > 1 ? every : 0), world_(world), devices_(size_t(world.size())) {
  if (every_ == 0) return;
  int32_t mine = device.is_cpu() ? -1 : device.index;
  world.communicator()
      .all_gather(make_tensor(&mine, DType::i32, {1}),
                  make_tensor(devices_.data(), DType::i32, {world.size()}), {"section times"})
      .wait();
  for (int r = 0; r < world.size(); ++r) stages_.push_back(dims.coordinates(r).pp);
}

std::optional<std::string> RankWatch::add(int64_t step, const StepResult& result) {
  if (every_ == 0 || num_steps_++ < 0) return std::nullopt;
  for (size_t s = 0; s < kOwnSections.size(); ++s)
    section_sum_s_[s] += result.rank_time_s[size_t(kOwnSections[s])];
  step_sum_s_ += std::accumulate(result.time_s.begin(), result.time_s.end(), 0.0);
  if (num_steps_ < every_) return std::nullopt;

  const std::vector<RankTimes> times = gather(step);
  const std::vector<RankStanding> ranks = compare_ranks(times, stages_);
  tell(step, ranks);
  Json line = {{"step", step}, {"steps", num_steps_}, {"step_ms", milliseconds(step_s())}};
  for (size_t r = 0; r < ranks.size(); ++r) {
    line["own_ms"].push_back(milliseconds(ranks[r].own_s));
    line["above"].push_back(percent_above(ranks[r]));
  }
  line["slow"] = told_;
  for (size_t s = 0; s < kOwnSections.size() && ranks.size() <= kMostDetailed; ++s) {
    Json& section = line["sections_ms"][time_kind_name(kOwnSections[s])];
    for (const RankTimes& rank : times) section.push_back(milliseconds(rank.section_s[s]));
  }
  num_steps_ = 0;
  section_sum_s_ = {};
  step_sum_s_ = 0.0;
  return line.dump();
}

std::vector<RankTimes> RankWatch::gather(int64_t step) {
  RankTimes mine;
  for (size_t s = 0; s < kOwnSections.size(); ++s)
    mine.section_s[s] = float(section_sum_s_[s] / double(num_steps_));
  const auto count = int64_t(kOwnSections.size());
  std::vector<RankTimes> all(static_cast<size_t>(world_.size()));
  static_assert(sizeof(RankTimes) == sizeof(RankTimes::section_s));
  world_.communicator()
      .all_gather(make_tensor(mine.section_s.data(), DType::f32, {count}),
                  make_tensor(all.data(), DType::f32, {count * world_.size()}),
                  {"section times", step})
      .wait();
  return all;
}

std::string RankWatch::describe(size_t rank, const RankStanding& s) const {
  const int device = devices_[rank];
  return fmt::format("rank {} ({}{}) {:.1f} ms a step, {} % above the others, most in {}", rank,
                     world_.hosts()[rank], device < 0 ? "" : fmt::format(", GPU {}", device),
                     1e3 * s.own_s, percent_above(s), time_kind_name(s.section));
}

void RankWatch::tell(int64_t step, const std::vector<RankStanding>& ranks) {
  std::vector<size_t> slow;
  for (size_t r = 0; r < ranks.size(); ++r)
    if (ranks[r].slow) slow.push_back(r);
  const std::vector<size_t> before = std::exchange(told_, slow);
  if (slow == before) return;
  log_live("");
  const std::string steps = fmt::format("steps {} to {}", step - num_steps_ + 1, step);
  if (slow.empty()) return log_info("{}: no rank is slower than the others any more", steps);
  std::sort(slow.begin(), slow.end(),
            [&](size_t a, size_t b) { return ranks[a].excess_s() > ranks[b].excess_s(); });
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(slow.size(), kMostNamed); ++i)
    names.push_back(describe(slow[i], ranks[slow[i]]));
  if (slow.size() > kMostNamed)
    names.push_back(fmt::format("and {} more (ranks.jsonl)", slow.size() - kMostNamed));
  const double excess_s = ranks[slow[0]].excess_s();
  log_warning(
      "{}: {} of {} ranks work{} slowly: {}; each step loses up to {:.1f} ms of {:.1f} to it",
      steps, slow.size(), ranks.size(), slow.size() == 1 ? "s" : "", join(names, "; "),
      1e3 * excess_s, 1e3 * step_s());
}

}  // namespace forja
