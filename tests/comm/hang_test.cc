// SPDX-License-Identifier: Apache-2.0
#include "forja/comm/hang.h"

#include <gtest/gtest.h>

#include "forja/base/error.h"

namespace forja {
namespace {

constexpr double kLimit = 60.0;

// Ranks of one group "dp", each after `calls` calls, not moving for `idle_s`.
std::vector<RankStatus> ranks_after(const std::vector<int64_t>& calls, double idle_s) {
  std::vector<RankStatus> out;
  for (size_t r = 0; r < calls.size(); ++r) {
    RankStatus s;
    s.rank = int(r);
    s.pid = 100 + int(r);
    s.host = r < 2 ? "a" : "b";
    s.activity = "optimizer";
    s.step = 12;
    s.idle_s = idle_s;
    s.groups.push_back({"dp", 0, int(calls.size()), calls[r], {}, {}});
    out.push_back(s);
  }
  return out;
}

PendingCall call(CommKind kind, int64_t number, std::vector<TransferStatus> transfers = {}) {
  return {kind, "gradients", number, 12, 5, 61.0, std::move(transfers)};
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << word;
  if (::testing::Test::HasFailure()) ADD_FAILURE() << text;
}

TEST(Hang, NobodyIsToldWhileThingsMove) {
  EXPECT_EQ(explain_hang(ranks_after({5, 5, 4}, 1.0), kLimit), "");
  auto ranks = ranks_after({5, 5, 4}, 100.0);
  ranks[0].groups[0].pending = ranks[1].groups[0].pending = call(CommKind::all_reduce, 4);
  ranks[2].idle_s = 3.0;  // works still: the others may wait for it
  EXPECT_EQ(explain_hang(ranks, kLimit), "");
}

TEST(Hang, NamesTheRankThatHasNotCome) {
  auto ranks = ranks_after({5, 5, 4}, 62.0);
  ranks[0].groups[0].pending = ranks[1].groups[0].pending = call(CommKind::all_reduce, 4);
  ranks[2].activity = "forward of stage 0, micro-batch 3";
  const std::string why = explain_hang(ranks, kLimit);
  expect_words(why, {"rank 2 on host b", "process 102 lives", "step 12, forward of stage 0",
                     "ranks 0, 1 wait for it, 61 s by now", "all_reduce \"gradients\" of step 12",
                     "layer 5", "call 4 of group dp: ranks 0, 1, 2"});
  EXPECT_EQ(why.find("rank 0 on host"), std::string::npos) << why;
}

TEST(Hang, TellsAStoppedProcessFromALivingOne) {
  auto ranks = ranks_after({5, 4}, 62.0);
  ranks[0].groups[0].pending = call(CommKind::barrier, 4);
  ranks[1].idle_s = 0.2;
  ranks[1].silent_s = 61.0;
  expect_words(explain_hang(ranks, kLimit),
               {"rank 1 on host a: no sign of life for 61 s: its process 101 is stopped"});
}

// The others go on: what is broken is the way to rank 0, and no reason to end the job.
TEST(Hang, ASilentRankThatNobodyWaitsForIsLeftAlone) {
  auto ranks = ranks_after({5, 5}, 1.0);
  ranks[1].silent_s = 1000.0;
  EXPECT_EQ(explain_hang(ranks, kLimit), "");
  // Its last status is old: a call under way says little while the caller moves.
  ranks[0].groups[0].calls = 9;
  ranks[0].groups[0].pending = call(CommKind::all_reduce, 8);
  EXPECT_EQ(explain_hang(ranks, kLimit), "");
  ranks[0].idle_s = 61.0;
  expect_words(explain_hang(ranks, kLimit), {"rank 1 on host a: no sign of life for 1000 s"});
}

TEST(Hang, ALostProcessIsToldAtOnce) {
  auto ranks = ranks_after({5, 5, 5}, 0.1);
  // Its own waiting does not matter any more.
  ranks[1].groups[0].pending = call(CommKind::barrier, 4);
  ranks[1].lost = true;
  expect_words(explain_hang(ranks, kLimit), {"rank 1 on host a: its process 101 has ended"});
}

// 0 waits for 1 in one group, 1 for 2 in another: 2 is the one.
TEST(Hang, FollowsAChainOverGroups) {
  auto ranks = ranks_after({5, 4, 0}, 70.0);
  ranks[2].groups.clear();
  ranks[0].groups[0].size = ranks[1].groups[0].size = 2;
  ranks[0].groups[0].pending = call(CommKind::all_gather, 4);
  ranks[1].groups.push_back({"tp", 1, 2, 9, {}, call(CommKind::all_reduce, 8)});
  ranks[2].groups.push_back({"tp", 1, 2, 8, {}, {}});
  const std::string why = explain_hang(ranks, kLimit);
  expect_words(why, {"rank 2 on host b", "rank 1 waits for it", "group tp: ranks 1, 2"});
  EXPECT_EQ(why.find("rank 1 on host"), std::string::npos) << why;
}

TEST(Hang, AnExchangeWaitsForItsPeersOnly) {
  auto ranks = ranks_after({7, 3, 2}, 70.0);
  // 0 sends its third to 1, which has asked for two; 2 has nothing to do with it.
  ranks[0].groups[0].pending = call(CommKind::exchange, 6, {{1, true, 2}});
  ranks[0].groups[0].made = {{1, true, 3}};
  ranks[1].groups[0].made = {{0, false, 2}};
  expect_words(explain_hang(ranks, kLimit), {"rank 1 on host a", "rank 0 waits for it",
                                             "exchange \"gradients\" of step 12, stage 5"});
  // Once it has asked, nobody is missing: the transfer itself hangs.
  ranks[1].groups[0].made = {{0, false, 3}};
  expect_words(explain_hang(ranks, kLimit), {"rank 0 on host a", "to which all have come"});
}

TEST(Hang, RanksThatWaitForEachOther) {
  auto ranks = ranks_after({5, 4}, 70.0);
  ranks[0].groups[0].pending = call(CommKind::all_reduce, 4);
  ranks[0].groups.push_back({"tp", 0, 2, 3, {}, {}});
  ranks[1].groups.push_back({"tp", 0, 2, 4, {}, call(CommKind::broadcast, 3)});
  expect_words(explain_hang(ranks, kLimit),
               {"wait for each other", "rank 0 on host a waits for rank 1 at all_reduce",
                "rank 1 on host a waits for rank 0 at broadcast"});
}

TEST(Hang, ACallThatAllHaveReached) {
  auto ranks = ranks_after({5, 5}, 70.0);
  ranks[0].groups[0].pending = ranks[1].groups[0].pending = call(CommKind::all_reduce, 4);
  expect_words(explain_hang(ranks, kLimit), {"to which all have come", "call 4 of group dp"});
}

TEST(Hang, AWorldOfOne) {
  auto ranks = ranks_after({0}, 70.0);
  ranks[0].groups.clear();
  ranks[0].activity = "reading the batch";
  expect_words(explain_hang(ranks, kLimit),
               {"rank 0 on host a", "70 s in: step 12, reading the batch"});
}

// Those that never reached rank 0 hold nobody up, as far as it knows.
TEST(Hang, RanksThatWereNeverHeardOfAreLeftOut) {
  auto ranks = ranks_after({5, 5, 5}, 1.0);
  ranks[2] = {.rank = 2};
  EXPECT_EQ(explain_hang(ranks, kLimit), "");
}

TEST(RankStatusText, RoundTripAndNonsense) {
  auto ranks = ranks_after({7}, 3.5);
  ranks[0].groups[0].pending = call(CommKind::exchange, 6, {{1, true, 2}});
  ranks[0].groups[0].made = {{1, true, 3}};
  const RankStatus read = rank_status_from_json(to_json(ranks[0]));
  EXPECT_EQ(to_json(read), to_json(ranks[0]));
  EXPECT_EQ(read.groups[0].pending->transfers[0].number, 2);
  for (const char* text : {"", "{}", "[1]", "{\"rank\":\"x\"}"})
    EXPECT_THROW(rank_status_from_json(text), Error) << text;
}

}  // namespace
}  // namespace forja
