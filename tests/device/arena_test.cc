// SPDX-License-Identifier: Apache-2.0
#include "forja/device/arena.h"

#include "forja/device/cpu_topology.h"
#include "forja/device/event.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

TEST(Arena, PlanningGivesTheSizeThatTheRealOneNeeds) {
  const auto use = [](Arena& a) {
    a.allocate(100);
    {
      ArenaScope scope(a);
      a.allocate(1000);
    }
    return a.allocate(200);
  };
  Arena plan("plan");
  EXPECT_EQ(use(plan), nullptr);
  EXPECT_EQ(plan.peak_bytes(), 128 + 1024);
  EXPECT_EQ(plan.used_bytes(), 128 + 256);
  Arena real("real", {}, plan.peak_bytes());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(use(real)) % Arena::kAlignment, 0u);
  EXPECT_EQ(real.peak_bytes(), plan.peak_bytes());
  const std::string message = testing::error_of([&] { real.allocate(4096); });
  EXPECT_NE(message.find("arena real is full: 1152 bytes planned, 4480 asked for"),
            std::string::npos)
      << message;
}

TEST(Arena, TooMuchMemoryIsSaidInBytes) {
  EXPECT_NE(testing::error_of([] {
              Arena("activations", {}, int64_t(1) << 56);
            }).find("not enough memory for activations: 64.00 PiB wanted"),
            std::string::npos);
}

TEST(Event, CarriesTheError) {
  const Event good = Event::pending(), bad = Event::pending();
  EXPECT_FALSE(good.done());
  good.complete();
  good.wait();
  EXPECT_TRUE(good.done());
  bad.complete(std::make_exception_ptr(Error(ExitCode::failed, "lost")));
  EXPECT_EQ(testing::error_of([&] { bad.wait(); }), "lost");
  Event().wait();
}

TEST(CpuPlan, RanksShareTheCores) {
  const CpuPlan alone = plan_cpus(0, 1);
  ASSERT_FALSE(alone.cpus.empty());
  if (!alone.bind) GTEST_SKIP() << "the user bound this process: " << alone.reason;
  const int n = int(alone.cpus.size());
  std::vector<int> all;
  for (int r = 0; r < n; ++r) {
    const CpuPlan plan = plan_cpus(r, n);
    ASSERT_EQ(plan.cpus.size(), 1u);
    all.push_back(plan.cpus[0]);
  }
  EXPECT_EQ(all, alone.cpus) << "every core once";
  const CpuPlan crowded = plan_cpus(n, n + 1);
  EXPECT_FALSE(crowded.bind);
  EXPECT_EQ(crowded.cpus.size(), 1u);
}

}  // namespace
}  // namespace forja
