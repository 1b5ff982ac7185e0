// SPDX-License-Identifier: Apache-2.0
// Schedules from CSV: what is written reads back, and what is wrong is named.
#include "forja/base/file.h"
#include "tests/parallel/schedule_testing.h"

namespace forja {
namespace {

using testing::error_of;
using testing::for_random_cases;
using testing::ScheduleCase;

// What is wrong with the text, for two ranks and two micro-batches.
std::string fault_of(const std::string& text, int virtual_stages = 1) {
  return error_of([&] { parse_schedule(text, "s.csv", 2, virtual_stages, 2); },
                  ExitCode::bad_input);
}

TEST(ScheduleCsv, RoundTrip) {
  for_random_cases(100, [](const ScheduleCase& c, auto&) {
    for (const Schedule& schedule : {c.make(), add_communication(c.make())}) {
      const Schedule again = parse_schedule(to_csv(schedule), c.name, c.num_ranks,
                                            c.stages_per_rank(), c.num_microbatches);
      ASSERT_EQ(again.actions, schedule.actions);
      ASSERT_EQ(again.rank_of_stage, schedule.rank_of_stage);
      ASSERT_EQ(again.num_microbatches, schedule.num_microbatches);
      ASSERT_EQ(to_csv(add_communication(again)), to_csv(add_communication(schedule)));
    }
  });
}

TEST(ScheduleCsv, ReadsAFile) {
  const testing::TemporaryDirectory folder;
  const std::string file = folder.file("mine.csv");
  write_file(file, "0F0, 0F1 ,,0B0,0B1\r\n,1F0,1B0,1F1,1I1,1W1\r\n\n");
  const Schedule schedule = make_schedule(file, 2, 1, 2);
  EXPECT_EQ(schedule.name, file);
  EXPECT_EQ(schedule.actions[0].size(), 4u);
  EXPECT_EQ(schedule.actions[1].back(), (Action{ActionKind::backward_weight, 1, 1}));
  EXPECT_EQ(simulate(schedule, {}).makespan, 8.0);
}

TEST(ScheduleCsv, StagesAreWhereTheFileHasThem) {
  const Schedule schedule = parse_schedule("1F0,1B0\n0F0,0B0\n", "s.csv", 2, 1, 1);
  EXPECT_EQ(schedule.rank_of_stage, (std::vector<int>{1, 0}));
  EXPECT_EQ(simulate(schedule, {}).makespan, 6.0);
}

TEST(ScheduleCsv, KeepsTransfersAndWhatElseItHas) {
  const std::string text =
      "0UNSHARD,0F0,0F1,0SEND_F0,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1,0RESHARD,0REDUCE_GRAD\n"
      "1RECV_F0,1F0,1RECV_F1,1B0,1SEND_B0,1F1,1B1,1SEND_B1,1REDUCE_GRAD\n";
  const Schedule schedule = parse_schedule(text, "s.csv", 2, 1, 2);
  EXPECT_EQ(to_csv(add_communication(schedule)), text);
}

TEST(ScheduleCsv, OverlappedPairs) {
  const Schedule schedule =
      parse_schedule("0F0,0F1,0B0,0B1\n1F0,(1F1;1B0)OVERLAP_F_B,1B1\n", "s.csv", 2, 1, 2);
  EXPECT_TRUE(schedule.actions[1][1].overlaps_next);
  EXPECT_FALSE(schedule.actions[1][2].overlaps_next);
  const std::string wrong = "1F0,(1B0;1F1)OVERLAP_F_B,1B1\n";
  EXPECT_EQ(fault_of("0F0,0F1,0B0,0B1\n" + wrong),
            "s.csv:2:2: 1B0 overlaps 1F1: expected a forward and then a backward of another "
            "micro-batch");
}

TEST(ScheduleCsv, WrongCellsAreNamedWithLineAndCell) {
  const std::string rest = "\n1F0,1B0,1F1,1B1\n";
  for (const char* cell :
       {"0X1", "F0", "0F", "0", "garbage", "0F1x", "0F-1", "-1F0", "0F99999999999", "0f1",
        "0UNSHARD1", "(0F1;0B0)", "(0F1;0B0)OVERLAP", "(0F1)OVERLAP_F_B", "(0F1;0B0", "0 F1",
        "(0F1;0B0;0B1)OVERLAP_F_B", "\"0F1\""}) {
    const std::string message = fault_of(fmt::format("0F0,,{},0B0,0B1{}", cell, rest));
    EXPECT_EQ(
        message.find(fmt::format("s.csv:1:3: \"{}\" is no action: expected one like 0F1", cell)),
        0u)
        << message;
  }
}

TEST(ScheduleCsv, WhatIsNoScheduleIsNamed) {
  const std::string first = "0F0,0F1,0B0,0B1\n", second = "1F0,1B0,1F1,1B1\n";
  EXPECT_EQ(fault_of(first), "s.csv: expected a row for each of 2 ranks, found 1 rows");
  EXPECT_EQ(fault_of(first + second + first),
            "s.csv: expected a row for each of 2 ranks, found 3 rows");
  EXPECT_EQ(fault_of(""), "s.csv: expected a row for each of 2 ranks, found 0 rows");
  EXPECT_EQ(fault_of(first + ",,\n" + "x"),
            "s.csv: expected a row for each of 2 ranks, found 3 rows");
  EXPECT_EQ(fault_of(",,\n" + second), "s.csv:1: no action in it");
  EXPECT_EQ(fault_of(first + "1F0,1B0,1F1\n"),
            "s.csv:2: 1B1 (backward of stage 1, micro-batch 1) is missing on rank 1");
  EXPECT_EQ(fault_of(first + "1F0,1I0,1F1,1B1\n"),
            "s.csv:2: 1W0 (weight gradients of stage 1, micro-batch 0) is missing on rank 1");
  EXPECT_EQ(fault_of(first + "1F0,1B0,,1F1,1B1,1F1\n"), "s.csv:2:6: 1F1 is there twice");
  EXPECT_EQ(fault_of("0F0,0F1,0B0,0B1,1F1\n" + second),
            "s.csv:2:1: 1F0 is on rank 1, but stage 1 is on rank 0");
  EXPECT_EQ(fault_of(first + "1F0,1B0,0B1,1F1,1B1\n"),
            "s.csv:2:3: 0B1 is on rank 1, but stage 0 is on rank 0");
  EXPECT_EQ(fault_of("0F0,0F1,0F2,0B0,0B1\n" + second),
            "s.csv:1:3: 0F2: there are 2 micro-batches, 0 to 1");
  EXPECT_EQ(fault_of(first + "1B0,1F0,1F1,1B1\n"),
            "s.csv:2:1: 1B0 comes before 1F0, which it needs");
  EXPECT_EQ(fault_of(first + "2F0,2B0\n"),
            "s.csv:2:1: 2F0: expected 2 stages = 2 ranks x virtual_stages 1");
  EXPECT_EQ(fault_of(first + second, 2),
            "s.csv: expected 4 stages = 2 ranks x virtual_stages 2; stage 2 has no action");
}

TEST(ScheduleCsv, DeadlocksAreExplained) {
  // Each rank waits for what the other one does later.
  const Schedule schedule = parse_schedule("0F0,0B0,0F1,0B1\n1F1,1F0,1B0,1B1\n", "s.csv", 2, 1, 2);
  const std::string message =
      "schedule s.csv deadlocks: rank 0 stands at 0B0, which waits for 1B0 of rank 1; rank 1 "
      "stands at 1F1, which waits for 0F1 of rank 0";
  EXPECT_EQ(error_of([&] { add_communication(schedule); }, ExitCode::bad_input), message);
  EXPECT_EQ(error_of([&] { simulate(schedule, {}); }, ExitCode::bad_input), message);
  // The right actions with transfers that never meet.
  const Schedule crossed = parse_schedule(
      "0F0,0F1,0SEND_F1,0SEND_F0,0RECV_B0,0B0,0RECV_B1,0B1\n"
      "1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n",
      "t.csv", 2, 1, 2);
  EXPECT_EQ(error_of([&] { add_communication(crossed); }, ExitCode::bad_input),
            "schedule t.csv deadlocks: rank 0 stands at 0B0, which waits for 0RECV_B0 of rank 0, "
            "and its transfers at 0SEND_F1, which waits for 1RECV_F1 of rank 1; rank 1 stands at "
            "1F0, which waits for 1RECV_F0 of rank 1, and its transfers at 1RECV_F0, which waits "
            "for 0SEND_F0 of rank 0");
}

}  // namespace
}  // namespace forja
