// SPDX-License-Identifier: Apache-2.0
#include "forja/train/watchdog.h"

#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <thread>

#include "tests/testing/local_world.h"

namespace forja {
namespace {

using testing::run_world;
using namespace std::chrono_literals;

// What the watchdogs of all ranks said.
class Verdicts {
 public:
  std::function<void(const std::string&)> of(int rank) {
    return [this, rank](const std::string& why) {
      std::lock_guard lock(mutex_);
      texts_.push_back(fmt::format("{}: {}", rank, why));
      first_.set_value();
    };
  }
  void wait() { ASSERT_EQ(first_.get_future().wait_for(30s), std::future_status::ready); }
  std::vector<std::string> texts() {
    std::lock_guard lock(mutex_);
    return texts_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> texts_;
  std::promise<void> first_;
};

// One rank does not come to a call until the watchdog has noticed.
void check_sleeper(int sleeper) {
  Verdicts verdicts;
  run_world(3, [&](World& world) {
    FlightRecord record(world.rank(), "here");
    record.watch(world.communicator(), "world");
    const Watchdog watchdog(world, record, 0.5, verdicts.of(world.rank()));
    record.set_activity("reading the batch", 7);
    if (world.rank() == sleeper) verdicts.wait();
    world.communicator().barrier({"end of the batch", 7}).wait();
  });
  ASSERT_EQ(verdicts.texts().size(), 1u);
  const std::string text = verdicts.texts()[0];
  for (const std::string& word :
       {std::string("0: "), fmt::format("rank {} on host local", sleeper),
        std::string("in: step 7, reading the batch"), std::string("barrier \"end of the batch\""),
        std::string(sleeper == 2 ? "ranks 0, 1 wait for it" : "ranks 1, 2 wait for it")})
    EXPECT_NE(text.find(word), std::string::npos) << word << "\n" << text;
}

TEST(Watchdog, NamesARankThatDoesNotCome) { check_sleeper(2); }
TEST(Watchdog, RankZeroIsWatchedToo) { check_sleeper(0); }

TEST(Watchdog, SaysNothingOfSlowRanksThatMove) {
  Verdicts verdicts;
  run_world(2, [&](World& world) {
    FlightRecord record(world.rank(), "here");
    record.watch(world.communicator(), "world");
    const Watchdog watchdog(world, record, 1.5, verdicts.of(world.rank()));
    for (int i = 0; i < 50 && world.rank() == 1; ++i) {
      std::this_thread::sleep_for(50ms);
      record.progressed();
    }
    world.communicator().barrier({"late"}).wait();
  });
  EXPECT_TRUE(verdicts.texts().empty()) << verdicts.texts()[0];
}

// Ranks end one after the other: a goodbye is no death.
TEST(Watchdog, ARankMayEndBeforeTheOthers) {
  Verdicts verdicts;
  run_world(3, [&](World& world) {
    FlightRecord record(world.rank(), "here");
    const Watchdog watchdog(world, record, 5.0, verdicts.of(world.rank()));
    world.communicator().barrier({"all are there"}).wait();
    std::this_thread::sleep_for(world.rank() * 600ms);
  });
  EXPECT_TRUE(verdicts.texts().empty()) << verdicts.texts()[0];
}

TEST(Watchdog, AWorldOfOne) {
  Verdicts verdicts;
  run_world(1, [&](World& world) {
    FlightRecord record(0, "here");
    record.set_activity("loading weights");
    const Watchdog watchdog(world, record, 0.3, verdicts.of(0));
    verdicts.wait();
  });
  EXPECT_NE(verdicts.texts()[0].find("in: loading weights"), std::string::npos)
      << verdicts.texts()[0];
}

}  // namespace
}  // namespace forja
