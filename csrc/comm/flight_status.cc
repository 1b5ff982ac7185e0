// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>

#include "csrc/comm/flight_layout.h"
#include "forja/base/error.h"

namespace forja {
namespace flight {
namespace {

double seconds(int64_t from_us, int64_t to_us) {
  return 1e-6 * double(std::max<int64_t>(0, to_us - from_us));
}

// The calls of a group that were made and have not ended, oldest first.
struct Unfinished {
  struct Call {
    PendingCall call;
    int64_t made_us;
  };
  std::deque<Call> calls;
  int64_t last_end_us = 0;
};

void count_transfer(GroupStatus& group, const TransferStatus& transfer) {
  const auto found =
      std::find_if(group.made.begin(), group.made.end(), [&](const TransferStatus& t) {
        return t.rank == transfer.rank && t.sends == transfer.sends;
      });
  if (found == group.made.end()) {
    group.made.push_back({transfer.rank, transfer.sends, transfer.number + 1});
  } else {
    found->number = transfer.number + 1;
  }
}

void replay(const Entry& e, GroupStatus& group, Unfinished& unfinished) {
  auto& calls = unfinished.calls;
  if (e.type == EntryType::call) {
    PendingCall call;
    call.kind = CommKind(e.kind);
    call.purpose = text_of(e.text);
    call.number = e.number;
    call.step = e.step;
    call.layer = e.layer;
    calls.push_back({call, e.time_us});
  } else if (e.type == EntryType::transfer) {
    const TransferStatus transfer{e.layer, e.sends != 0, e.number};
    count_transfer(group, transfer);
    if (!calls.empty()) calls.back().call.transfers.push_back(transfer);
  } else {
    calls.erase(std::remove_if(calls.begin(), calls.end(),
                               [&](const auto& c) { return c.call.number == e.number; }),
                calls.end());
    unfinished.last_end_us = e.time_us;
  }
}

}  // namespace

RankStatus status_of(const Layout& layout, int64_t now_us) {
  const Header& h = layout.header;
  RankStatus status;
  status.rank = h.rank;
  status.pid = h.pid;
  status.host = text_of(h.host);
  status.activity = text_of(h.activity);
  status.step = h.step;
  status.idle_s = seconds(h.moved_us, now_us);
  for (uint32_t g = 0; g < std::min(h.num_groups, kMaxGroups); ++g) {
    const Group& group = h.groups[g];
    status.groups.push_back(
        {text_of(group.name), group.first_rank, group.size, group.calls, {}, {}});
  }
  std::vector<Unfinished> unfinished(status.groups.size());
  for_each_entry(layout, [&](const Entry& e) {
    if (e.type == EntryType::activity || e.group >= status.groups.size()) return;
    replay(e, status.groups[e.group], unfinished[e.group]);
  });
  for (size_t g = 0; g < unfinished.size(); ++g) {
    if (unfinished[g].calls.empty()) continue;
    auto& [call, made_us] = unfinished[g].calls.front();
    call.waiting_s = seconds(std::max(made_us, unfinished[g].last_end_us), now_us);
    status.groups[g].pending = call;
  }
  return status;
}

}  // namespace flight

namespace {

using Json = nlohmann::json;

Json transfers_to_json(const std::vector<TransferStatus>& transfers) {
  Json out = Json::array();
  for (const TransferStatus& t : transfers) out.push_back({t.rank, t.sends, t.number});
  return out;
}

std::vector<TransferStatus> transfers_from_json(const Json& json) {
  std::vector<TransferStatus> out;
  for (const Json& t : json) out.push_back({t.at(0), t.at(1), t.at(2)});
  return out;
}

Json group_to_json(const GroupStatus& g) {
  Json out{{"name", g.name},
           {"first_rank", g.first_rank},
           {"size", g.size},
           {"calls", g.calls},
           {"made", transfers_to_json(g.made)}};
  if (!g.pending) return out;
  const PendingCall& p = *g.pending;
  out["pending"] = {{"kind", int(p.kind)},
                    {"purpose", p.purpose},
                    {"number", p.number},
                    {"step", p.step},
                    {"layer", p.layer},
                    {"waiting_s", p.waiting_s},
                    {"transfers", transfers_to_json(p.transfers)}};
  return out;
}

GroupStatus group_from_json(const Json& json) {
  GroupStatus g{json.at("name"),
                json.at("first_rank"),
                json.at("size"),
                json.at("calls"),
                transfers_from_json(json.at("made")),
                {}};
  if (!json.contains("pending")) return g;
  const Json& p = json.at("pending");
  const int kind = p.at("kind");
  FORJA_CHECK(kind >= 0 && kind <= int(CommKind::split), "{} is no kind of call", kind);
  g.pending = {CommKind(kind),
               p.at("purpose"),
               p.at("number"),
               p.at("step"),
               p.at("layer"),
               p.at("waiting_s"),
               transfers_from_json(p.at("transfers"))};
  return g;
}

}  // namespace

std::string to_json(const RankStatus& s) {
  Json groups = Json::array();
  for (const GroupStatus& g : s.groups) groups.push_back(group_to_json(g));
  return Json{{"rank", s.rank}, {"pid", s.pid},       {"host", s.host},  {"activity", s.activity},
              {"step", s.step}, {"idle_s", s.idle_s}, {"groups", groups}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

RankStatus rank_status_from_json(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    RankStatus s;
    s.rank = json.at("rank");
    s.pid = json.at("pid");
    s.host = json.at("host");
    s.activity = json.at("activity");
    s.step = json.at("step");
    s.idle_s = json.at("idle_s");
    for (const Json& g : json.at("groups")) s.groups.push_back(group_from_json(g));
    return s;
  } catch (const Json::exception& e) {
    fail("not the status of a rank: {}", e.what());
  }
}

}  // namespace forja
