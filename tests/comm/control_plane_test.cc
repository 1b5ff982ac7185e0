// SPDX-License-Identifier: Apache-2.0
#include "forja/comm/control_plane.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <mutex>
#include <vector>

#include "tests/testing/local_world.h"

namespace {

using Clock = std::chrono::steady_clock;
std::mutex mutex;
size_t failures_left = 0;
std::vector<Clock::time_point> failures;

}  // namespace

// As where no file descriptor is left, for a while.
extern "C" int accept(int socket, sockaddr* address, socklen_t* length) {
  const std::lock_guard lock(mutex);
  if (failures_left > 0) {
    --failures_left;
    failures.push_back(Clock::now());
    errno = EMFILE;
    return -1;
  }
  return int(::syscall(SYS_accept4, socket, address, length, 0));
}

namespace forja {
namespace {

TEST(ControlPlane, PausesWhereAConnectionCannotBeAccepted) {
  {
    const std::lock_guard lock(mutex);
    failures_left = 3;
    failures.clear();
  }
  testing::run_world(2, [](World& world) {
    std::promise<std::string> received;
    bool sent = false;
    ControlPlane plane(world);
    plane.start(0.01, {.tick =
                           [&] {
                             if (!sent && world.rank() == 1) plane.send("here");
                             sent = true;
                           },
                       .message = [&](int, const std::string& text) { received.set_value(text); },
                       .lost = [](int) {}});
    if (world.rank() == 0) {
      EXPECT_EQ(received.get_future().get(), "here");
    }
    world.communicator().barrier({"received"}).wait();
  });
  const std::lock_guard lock(mutex);
  ASSERT_EQ(failures.size(), 3u);
  for (size_t i = 1; i < failures.size(); ++i)
    EXPECT_GE(failures[i] - failures[i - 1], std::chrono::milliseconds(90)) << "in a busy loop";
}

}  // namespace
}  // namespace forja
