// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/run_lock.h"

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "forja/base/file.h"
#include "tests/testing/testing.h"

namespace {
int no_locks = 0;  // the error of a file system without
}  // namespace

extern "C" int flock(int fd, int operation) noexcept {
  if (no_locks == 0) return int(::syscall(SYS_flock, fd, operation));
  errno = no_locks;
  return -1;
}

namespace forja {
namespace {

TEST(RunLock, IsOfOneStartAtATime) {
  const testing::TemporaryDirectory folder;
  const RunDirectory run(folder.file("runs/one"));
  const std::string own = fmt::format("process {} on here", ::getpid());
  {
    const RunLock lock(run, "here");
    EXPECT_EQ(read_file(run.lock()), own + "\n");
    const std::string message =
        testing::error_of([&] { const RunLock second(run, "there"); }, ExitCode::bad_input);
    EXPECT_EQ(message, run.path() + " is being written by another start of the run, " + own +
                           ": wait until it has ended or stop it; or give another name or output");
    EXPECT_EQ(read_file(run.lock()), own + "\n") << "still";
    const RunLock other(RunDirectory(folder.file("runs/two")), "here");
    write_file(run.metrics(), "");
  }
  EXPECT_FALSE(file_exists(folder.file("runs/two"))) << "nothing was written there";
  EXPECT_EQ(read_file(run.lock()), "");
  const RunLock next(run, "elsewhere");
  EXPECT_EQ(read_file(run.lock()), fmt::format("process {} on elsewhere\n", ::getpid()));
}

TEST(RunLock, WhatAKilledRunLeftIsNoLock) {
  const testing::TemporaryDirectory folder;
  write_file(folder.file("lock"),
             "process 1 on a host with a name that is much longer than ours\n");
  const RunLock lock(RunDirectory(folder.path()), "here");
  EXPECT_EQ(read_file(folder.file("lock")), fmt::format("process {} on here\n", ::getpid()));
}

TEST(RunLock, AFileSystemWithoutLocksIsAWarning) {
  const testing::TemporaryDirectory folder;
  const RunDirectory run(folder.path());
  no_locks = ENOLCK;
  ::testing::internal::CaptureStderr();
  {
    const RunLock lock(run, "here");
    const RunLock second(run, "here");
  }
  no_locks = 0;
  EXPECT_NE(
      ::testing::internal::GetCapturedStderr().find(
          run.lock() + " cannot be locked (No locks available): nothing keeps a second start"),
      std::string::npos);
}

}  // namespace
}  // namespace forja
