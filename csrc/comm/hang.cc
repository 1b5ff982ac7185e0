// SPDX-License-Identifier: Apache-2.0
#include "forja/comm/hang.h"

#include <algorithm>
#include <map>
#include <set>

#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

// `from` waits for `to`, which has not come to from's pending call of the group.
struct Wait {
  int from, to;
  const GroupStatus* group;
};

std::string place_of(const RankStatus& r) {
  return r.host.empty() ? fmt::format("rank {}", r.rank)
                        : fmt::format("rank {} on host {}", r.rank, r.host);
}

std::string ranks_text(const std::vector<int>& ranks) {
  constexpr size_t kMost = 8;
  std::string out;
  for (size_t i = 0; i < std::min(kMost, ranks.size()); ++i)
    out += fmt::format("{}{}", i > 0 ? ", " : "", ranks[i]);
  if (ranks.size() > kMost) out += fmt::format(" and {} more", ranks.size() - kMost);
  return (ranks.size() == 1 ? "rank " : "ranks ") + out;
}

// all_reduce "gradients" of step 12, layer 5 (call 1204 of group dp: ranks 0, 2)
std::string describe(const GroupStatus& group, const std::vector<int>& members) {
  const PendingCall& p = *group.pending;
  std::string out = fmt::format("{} \"{}\"", comm_kind_name(p.kind), p.purpose);
  if (p.step >= 0) out += fmt::format(" of step {}", p.step);
  if (p.layer >= 0) {
    out += fmt::format("{} {} {}", p.step >= 0 ? "," : " of",
                       p.kind == CommKind::exchange ? "stage" : "layer", p.layer);
  }
  return out + fmt::format(" (call {} of group {}: {})", p.number, group.name, ranks_text(members));
}

bool is_stuck(const RankStatus& r, double limit_s) {
  return r.lost || r.idle_s >= limit_s || r.silent_s >= limit_s;
}

class Waits {
 public:
  Waits(const std::vector<RankStatus>& ranks, double limit_s)
      : ranks_(ranks), limit_s_(limit_s), from_(ranks.size()) {
    for (const RankStatus& r : ranks)
      for (const GroupStatus& g : r.groups) members_[{g.name, g.first_rank}].push_back(r.rank);
    for (const RankStatus& r : ranks)
      for (const GroupStatus& g : r.groups)
        if (g.pending && !r.lost) add_waits(r, g);
  }

  // All that `rank` waits for, directly or not, itself included, when all of them are stuck.
  std::set<int> stuck_chain(int rank) const {
    std::set<int> seen;
    std::vector<int> open{rank};
    while (!open.empty()) {
      const int r = open.back();
      open.pop_back();
      if (!seen.insert(r).second) continue;
      if (!is_stuck(ranks_[size_t(r)], limit_s_)) return {};
      for (const Wait& w : from(r)) open.push_back(w.to);
    }
    return seen;
  }

  std::string call_of(const GroupStatus& group) const {
    return describe(group, members_.at({group.name, group.first_rank}));
  }

  const std::vector<Wait>& from(int rank) const { return from_[size_t(rank)]; }
  std::vector<Wait> to(int rank) const {
    std::vector<Wait> out;
    for (const auto& waits : from_)
      for (const Wait& w : waits)
        if (w.to == rank) out.push_back(w);
    return out;
  }

 private:
  static const GroupStatus* group_of(const RankStatus& r, const GroupStatus& like) {
    for (const GroupStatus& g : r.groups)
      if (g.name == like.name && g.first_rank == like.first_rank) return &g;
    return nullptr;
  }

  void add_waits(const RankStatus& r, const GroupStatus& g) {
    if (g.pending->kind == CommKind::exchange) {
      for (const TransferStatus& t : g.pending->transfers)
        if (!has_come(r.rank, t, g)) add(r.rank, t.rank, g);
      return;
    }
    for (const int m : members_[{g.name, g.first_rank}])
      if (group_of(ranks_[size_t(m)], g)->calls <= g.pending->number) add(r.rank, m, g);
  }

  void add(int from, int to, const GroupStatus& g) {
    if (from != to) from_[size_t(from)].push_back({from, to, &g});
  }

  // Whether the peer of `t`, a transfer of `rank`, has asked for its half.
  bool has_come(int rank, const TransferStatus& t, const GroupStatus& g) const {
    if (t.rank < 0 || t.rank >= int(ranks_.size())) return true;
    const GroupStatus* other = group_of(ranks_[size_t(t.rank)], g);
    if (!other) return false;
    return std::any_of(other->made.begin(), other->made.end(), [&](const TransferStatus& m) {
      return m.rank == rank && m.sends != t.sends && m.number > t.number;
    });
  }

  const std::vector<RankStatus>& ranks_;
  const double limit_s_;
  std::map<std::pair<std::string, int>, std::vector<int>> members_;
  std::vector<std::vector<Wait>> from_;  // by rank
};

std::string state_of(const RankStatus& r, double limit_s) {
  const std::string last = fmt::format("{}{}", r.step >= 0 ? fmt::format("step {}, ", r.step) : "",
                                       r.activity.empty() ? "the start" : r.activity);
  if (r.lost)
    return fmt::format("its process {} has ended without a word; last heard of in: {}", r.pid,
                       last);
  if (r.silent_s >= limit_s) {
    return fmt::format(
        "no sign of life for {:.0f} s: its process {} is stopped, or its host or network is gone; "
        "last heard of in: {}",
        r.silent_s, r.pid, last);
  }
  return fmt::format("its process {} lives, and is for {:.0f} s in: {}", r.pid,
                     r.idle_s + r.silent_s, last);
}

// Who waits for `root`, one line for each call.
std::string waiters_of(const std::vector<RankStatus>& ranks, const Waits& waits, int root) {
  std::map<std::string, std::vector<int>> by_call;
  double longest_s = 0.0;
  for (const Wait& w : waits.to(root)) {
    by_call[waits.call_of(*w.group)].push_back(w.from);
    longest_s = std::max(longest_s, w.group->pending->waiting_s + ranks[size_t(w.from)].silent_s);
  }
  std::string out;
  for (const auto& [call, from] : by_call) {
    out += fmt::format("\n  {} wait{} for it, {:.0f} s by now, at {}", ranks_text(from),
                       from.size() == 1 ? "s" : "", longest_s, call);
  }
  return out;
}

// All of a chain have come where they are waited for: a circle of waits, or a call that all have
// reached.
std::string describe_knot(const std::vector<RankStatus>& ranks, const Waits& waits,
                          const std::set<int>& chain) {
  std::string out;
  for (const int r : chain) {
    for (const Wait& w : waits.from(r)) {
      out += fmt::format("\n  {} waits for rank {} at {}", place_of(ranks[size_t(r)]), w.to,
                         waits.call_of(*w.group));
    }
  }
  return "these ranks wait for each other:" + out;
}

// Of a rank at the end of a chain.
std::string describe_root(const std::vector<RankStatus>& ranks, const Waits& waits, int root,
                          double limit_s) {
  const RankStatus& r = ranks[size_t(root)];
  const auto pending = std::find_if(r.groups.begin(), r.groups.end(),
                                    [](const GroupStatus& g) { return g.pending.has_value(); });
  std::string out =
      fmt::format("{}: {}{}", place_of(r), state_of(r, limit_s), waiters_of(ranks, waits, root));
  if (pending == r.groups.end() || r.lost || r.silent_s >= limit_s) return out;
  return out + fmt::format(
                   "\n  it is itself in {}, to which all have come: the call does not end (the "
                   "network, or a rank that calls something else)",
                   waits.call_of(*pending));
}

}  // namespace

std::string explain_hang(const std::vector<RankStatus>& ranks, double limit_s) {
  if (std::none_of(ranks.begin(), ranks.end(),
                   [&](const RankStatus& r) { return is_stuck(r, limit_s); }))
    return "";
  const Waits waits(ranks, limit_s);
  std::set<int> chain;
  for (const RankStatus& r : ranks) {
    // Of a silent rank only the way to rank 0 may be broken: somebody has to wait for it.
    const bool begins = r.lost || (r.idle_s >= limit_s && r.silent_s < limit_s);
    chain = begins ? waits.stuck_chain(r.rank) : std::set<int>{};
    if (!chain.empty()) break;
  }
  if (chain.empty()) return "";
  std::string out;
  for (const int r : chain) {
    if (!waits.from(r).empty()) continue;
    out += (out.empty() ? "" : "\n") + describe_root(ranks, waits, r, limit_s);
  }
  return out.empty() ? describe_knot(ranks, waits, chain) : out;
}

}  // namespace forja
