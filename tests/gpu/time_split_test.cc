// SPDX-License-Identifier: Apache-2.0
// Where the time of a GPU's stream goes: on the emulated GPU, to which work of a known length can
// be given.
#ifndef FORJA_REAL_GPU
#include "forja/parallel/time_split.h"

#include <gtest/gtest.h>

#include <thread>

#include "kernels/emulator/emulator.h"

namespace forja {
namespace {

using std::chrono::milliseconds;

void give_work(const GpuStream& stream, milliseconds length) {
  emulator::submit(stream.handle(), [length] { std::this_thread::sleep_for(length); });
}

TEST(TimeSplitOfAStream, CountsTheStreamsTimeAndNotTheHosts) {
  const GpuStream stream({DeviceKind::cuda, 0});
  TimeSplit times;
  times.use_stream(stream.handle());
  for (int step = 0; step < 2; ++step) {
    std::vector<std::pair<TimeKind, double>> heard;
    times.set_listener([&](TimeKind kind, auto begin, auto end) {
      heard.push_back({kind, std::chrono::duration<double>(end - begin).count()});
    });
    double reported = 0.0;
    times.reset();
    const auto given = TimeSplit::Clock::now();
    const auto begin = times.now();
    {
      const TimeSplit::Scope forward(times, TimeKind::forward);
      give_work(stream, milliseconds(30));
      const TimeSplit::Scope wait(times, TimeKind::wait_tp);
      give_work(stream, milliseconds(20));
    }
    times.when_known(begin, times.now(), [&](auto from, auto to) {
      reported = std::chrono::duration<double>(to - from).count();
    });
    EXPECT_TRUE(heard.empty());
    times.finish();
    const double all = std::chrono::duration<double>(TimeSplit::Clock::now() - given).count();
    EXPECT_GE(times.seconds(TimeKind::forward), 0.029);
    EXPECT_GE(times.seconds(TimeKind::wait_tp), 0.019);
    EXPECT_GE(reported, 0.049);
    double sum = 0.0;
    for (size_t i = 0; i < TimeSplit::kKinds; ++i) sum += times.seconds(TimeKind(i));
    EXPECT_LE(sum, all + 0.001);
    ASSERT_EQ(heard.size(), 5u);  // other, forward, waiting, the rest of forward, other
    EXPECT_EQ(heard[2].first, TimeKind::wait_tp);
    EXPECT_GE(heard[2].second, 0.019);
  }
}

// As an evaluation between two steps does.
TEST(TimeSplitOfAStream, CountsNothingBetweenFinishAndReset) {
  const GpuStream stream({DeviceKind::cuda, 0});
  TimeSplit times;
  times.use_stream(stream.handle());
  { const TimeSplit::Scope forward(times, TimeKind::forward); }
  times.reset();
  times.finish();
  give_work(stream, milliseconds(20));
  { const TimeSplit::Scope forward(times, TimeKind::forward); }
  EXPECT_EQ(times.seconds(TimeKind::forward), 0.0);
  times.reset();
  times.finish();
  EXPECT_LT(times.seconds(TimeKind::other), 0.02);
}

}  // namespace
}  // namespace forja
#endif
