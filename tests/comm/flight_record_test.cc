// SPDX-License-Identifier: Apache-2.0
#include "forja/comm/flight_record.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "csrc/comm/flight_layout.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "tests/testing/local_world.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::run_world;

const GroupStatus& group(const RankStatus& s, const std::string& name) {
  for (const GroupStatus& g : s.groups)
    if (g.name == name) return g;
  fail("no group {}", name);
}

TEST(FlightRecord, CountsCallsAndKnowsWhatIsUnderWay) {
  run_world(2, [](World& world) {
    Communicator& c = world.communicator();
    FlightRecord record(world.rank(), "here");
    record.watch(c, "all");
    record.set_activity("working", 3);
    float x = 1.0f;
    const Tensor t = make_tensor(&x, DType::f32, {1});
    c.all_reduce(t, ReduceOp::sum, {"first", 3, 1}).wait();
    RankStatus s = record.status();
    EXPECT_EQ(s.activity, "working");
    EXPECT_EQ(s.step, 3);
    EXPECT_EQ(group(s, "all").calls, 1);
    EXPECT_FALSE(group(s, "all").pending);
    if (world.rank() == 0) {
      const Event event = c.all_reduce(t, ReduceOp::sum, {"second", 4, 2});
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      s = record.status();
      ASSERT_TRUE(group(s, "all").pending);
      EXPECT_EQ(group(s, "all").pending->purpose, "second");
      EXPECT_EQ(group(s, "all").pending->number, 1);
      EXPECT_EQ(group(s, "all").pending->step, 4);
      EXPECT_EQ(group(s, "all").pending->layer, 2);
      EXPECT_GE(group(s, "all").pending->waiting_s, 0.02);
      EXPECT_GE(s.idle_s, 0.02);
      event.wait();
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(60));
      c.all_reduce(t, ReduceOp::sum, {"second", 4, 2}).wait();
    }
    EXPECT_FALSE(group(record.status(), "all").pending);
  });
}

TEST(FlightRecord, NamesPeersByTheirRankInTheWorld) {
  run_world(4, [](World& world) {
    FlightRecord record(world.rank(), "here");
    const auto odd_and_even = world.communicator().split(world.rank() % 2, world.rank());
    record.watch(*odd_and_even, "half");
    EXPECT_EQ(group(record.status(), "half").first_rank, world.rank() % 2);
    using Kind = PointToPoint::Kind;
    const bool sends = world.rank() < 2;
    float x = 0.0f;
    const PointToPoint part{sends ? Kind::send : Kind::recv, make_tensor(&x, DType::f32, {1}),
                            sends ? 1 : 0};
    odd_and_even->exchange({part}, {"there"}).wait();
    odd_and_even->exchange({part}, {"there"}).wait();
    const auto made = group(record.status(), "half").made;
    ASSERT_EQ(made.size(), 1u);
    EXPECT_EQ(made[0].rank, (world.rank() + 2) % 4);
    EXPECT_EQ(made[0].sends, sends);
    EXPECT_EQ(made[0].number, 2);
  });
}

// More than the ring holds: counts go on.
TEST(FlightRecord, TheRingKeepsTheNewest) {
  run_world(2, [](World& world) {
    FlightRecord record(world.rank(), "here");
    record.watch(world.communicator(), "all");
    for (uint64_t i = 0; i < flight::kCapacity; ++i) world.communicator().barrier({"again"}).wait();
    EXPECT_EQ(group(record.status(), "all").calls, int64_t(flight::kCapacity));
    EXPECT_FALSE(group(record.status(), "all").pending);
  });
}

TEST(FlightRecord, TheFileOutlivesAKilledProcess) {
  const testing::TemporaryDirectory folder;
  const std::string path = folder.path() + "/rank-00000";
  const pid_t child = ::fork();
  if (child == 0) {
    FlightRecord record(0, "there");
    record.set_activity("before the file", 6);
    record.keep_in(path);
    record.set_activity("the last thing", 7);
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const std::string text = describe_flight_records(folder.path(), 10);
  EXPECT_NE(
      text.find(fmt::format("rank 0 on host there (process {}): step 7, the last thing", child)),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("step 6: before the file"), std::string::npos) << text;
}

TEST(FlightRecord, AnOlderFileIsKeptBeside) {
  const testing::TemporaryDirectory folder;
  const std::string path = folder.path() + "/rank-00000";
  for (const char* activity : {"first", "second"}) {
    FlightRecord record(0, "here");
    record.keep_in(path);
    record.set_activity(activity);
  }
  EXPECT_NE(read_file(path + ".previous").find("first"), std::string::npos);
  const std::string text = describe_flight_records(folder.path(), 10);
  EXPECT_NE(text.find("second"), std::string::npos);
  EXPECT_EQ(text.find("first"), std::string::npos);
}

TEST(FlightRecord, WhatCannotBeWrittenOrReadIsSaid) {
  const testing::TemporaryDirectory folder;
  FlightRecord record(0, "here");
  EXPECT_THROW(record.keep_in(folder.path() + "/not there/rank-00000"), Error);
  record.set_activity("goes on");
  EXPECT_EQ(record.status().activity, "goes on");

  EXPECT_THROW(describe_flight_records(folder.path(), 10), Error);
  const std::string path = folder.path() + "/rank-00000";
  write_file(path, "short");
  EXPECT_THROW(describe_flight_records(folder.path(), 10), Error);
  write_file(path, std::string(sizeof(flight::Layout), 'x'));
  EXPECT_THROW(describe_flight_records(folder.path(), 10), Error);
}

}  // namespace
}  // namespace forja
