// SPDX-License-Identifier: Apache-2.0
#include "forja/train/trace.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

namespace forja {
namespace {

using nlohmann::json;
using std::chrono::nanoseconds;

RankTrace small_trace() {
  RankTrace trace;
  trace.zero = RankTrace::TimePoint(nanoseconds(5'000));
  const auto at = [&](int64_t ns) { return trace.zero + nanoseconds(ns); };
  trace.steps = {{7, at(0), at(9'000)}};
  trace.actions = {{{ActionKind::forward, 1, 3}, 7, at(1'000), at(2'500)},
                   {{ActionKind::send_activation, 1, 3}, 7, at(2'500), at(2'501)},
                   {{ActionKind::reduce_gradients, 1, -1}, 7, at(2'501), at(4'000)}};
  trace.times = {{TimeKind::wait_pp, at(0), at(1'000)}, {TimeKind::forward, at(1'000), at(2'500)}};
  trace.groups = {
      {"tp", {{{"partial \"sums\"", 7, 2}, CommKind::all_reduce, 4096, at(1'100), at(1'200)}}},
      {"pp", {{{"activation", 7, 1}, CommKind::exchange, 0, at(100), at(900)}}}};
  return trace;
}

// The events of a phase, by "ph".
std::vector<json> events_of(const json& file, const std::string& phase) {
  std::vector<json> out;
  for (const json& event : file["traceEvents"])
    if (event["ph"] == phase) out.push_back(event);
  return out;
}

TEST(Trace, IsOneJsonFileOfAllRanks) {
  const RankTrace trace = small_trace();
  const json file = json::parse(trace_file(
      {trace.events(0, {0, 0, 0, 0}), trace.events(3, {.pp = 1, .dp = 0, .cp = 0, .tp = 1})}));
  EXPECT_EQ(file["otherData"]["format_version"], 1);
  std::map<int, std::string> processes;
  std::map<std::pair<int, int>, std::string> tracks;
  for (const json& event : events_of(file, "M")) {
    if (event["name"] == "process_name") processes[event["pid"]] = event["args"]["name"];
    if (event["name"] == "thread_name")
      tracks[{event["pid"], event["tid"]}] = event["args"]["name"];
  }
  EXPECT_EQ(processes, (std::map<int, std::string>{{0, "rank 0 (pp 0 dp 0 tp 0)"},
                                                   {3, "rank 3 (pp 1 dp 0 tp 1)"}}));
  std::map<std::string, int> events;  // by track and name, of rank 3
  for (const json& event : events_of(file, "X")) {
    const std::pair<int, int> track(event["pid"], event["tid"]);
    ASSERT_TRUE(tracks.count(track)) << event;
    if (track.first == 3) ++events[tracks[track] + ": " + event["name"].get<std::string>()];
  }
  EXPECT_EQ(events, (std::map<std::string, int>{{"steps: step 7", 1},
                                                {"schedule: forward 1.3", 1},
                                                {"schedule: send activation 1.3", 1},
                                                {"schedule: reduce gradients 1", 1},
                                                {"time: wait_pp", 1},
                                                {"time: forward", 1},
                                                {"tp: partial \"sums\"", 1},
                                                {"pp: receive activation", 1}}));
}

TEST(Trace, SpansSayWhenAndWhat) {
  const json file = json::parse(trace_file({small_trace().events(0, {})}));
  const auto find = [&](const std::string& name, const std::string& category) {
    for (const json& event : events_of(file, "X"))
      if (event["name"] == name && event["cat"] == category) return event;
    return json();
  };
  const json forward = find("forward 1.3", "action");
  EXPECT_EQ(forward["ts"], 1.0);  // microseconds since zero
  EXPECT_EQ(forward["dur"], 1.5);
  EXPECT_EQ(forward["args"], json({{"step", 7}, {"stage", 1}, {"microbatch", 3}}));
  const json reduce = find("partial \"sums\"", "transfer");
  EXPECT_NEAR(reduce["ts"].get<double>(), 1.1, 1e-9);
  EXPECT_EQ(
      reduce["args"],
      json({{"axis", "tp"}, {"kind", "all_reduce"}, {"bytes", 4096}, {"step", 7}, {"layer", 2}}));
}

TEST(Trace, TextsOfAnyLengthAreGathered) {
  const std::vector<std::string> texts = {"a", std::string(100'000, 'b'), "cc"};
  auto world = make_local_communicators(int(texts.size()));
  std::vector<std::vector<std::string>> gathered(texts.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < texts.size(); ++rank)
    threads.emplace_back([&, rank] { gathered[rank] = gather_texts(*world[rank], texts[rank]); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(gathered[0], texts);
  EXPECT_TRUE(gathered[1].empty() && gathered[2].empty());
  EXPECT_EQ(gather_texts(*make_self_communicator(), "alone"), std::vector<std::string>{"alone"});
}

}  // namespace
}  // namespace forja
