// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string_view>
#include <thread>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/log.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

// A killed launcher's ranks, or what a scheduler requeues, may take a moment to end.
constexpr auto kPatience = std::chrono::seconds(5);
constexpr auto kPause = std::chrono::milliseconds(100);

// The error number; 0: it is held.
int take(int fd) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK || std::chrono::steady_clock::now() >= end) return errno;
    std::this_thread::sleep_for(kPause);
  }
  return 0;
}

// Who has it is only said: a full disk does not matter.
void say(int fd, const std::string& holder) {
  if (::ftruncate(fd, 0) == 0 && ::pwrite(fd, holder.data(), holder.size(), 0) >= 0) return;
  log_warning("cannot write into the lock of the run: {}", std::strerror(errno));
}

std::string holder(int fd) {
  char text[300];
  const ssize_t n = ::pread(fd, text, sizeof text, 0);
  std::string_view found(text, n > 0 ? size_t(n) : 0);
  found = found.substr(0, found.find('\n'));
  return found.empty() ? "a process that has not said which one it is" : std::string(found);
}

// A run that was refused before it wrote anything leaves nothing.
void remove_unused(const std::string& directory) {
  std::error_code ignored;
  if (std::distance(fs::directory_iterator(directory, ignored), {}) == 1)
    fs::remove_all(directory, ignored);
}

}  // namespace

RunLock::RunLock(const RunDirectory& directory, const std::string& host)
    : directory_(directory.path()), made_directory_(!fs::exists(directory_)) {
  make_directories(directory_);
  const std::string path = directory.lock();
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd_ < 0) fail("cannot write {}: {}", path, std::strerror(errno));
  const int error = take(fd_);
  if (error == EWOULDBLOCK) {
    const std::string who = holder(fd_);
    ::close(fd_);
    fail_input(
        "{} is being written by another start of the run, {}: wait until it has ended or stop it; "
        "or give another name or output",
        directory.path(), who);
  }
  if (error != 0) {
    log_warning("{} cannot be locked ({}): nothing keeps a second start of the run out of {}", path,
                std::strerror(error), directory.path());
    return;
  }
  say(fd_, fmt::format("process {} on {}\n", ::getpid(), host));
  held_ = true;
}

RunLock::~RunLock() {
  if (held_) say(fd_, "");
  if (held_ && made_directory_) remove_unused(directory_);
  ::close(fd_);
}

}  // namespace forja
