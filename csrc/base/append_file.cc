// SPDX-License-Identifier: Apache-2.0
#include "forja/base/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "forja/base/error.h"
#include "forja/base/log.h"

namespace forja {

AppendFile::AppendFile(const std::string& path, Open open) : path_(path) {
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  fd_ = ::open(path_.c_str(), flags | (open == Open::new_only ? O_EXCL : 0), 0644);
  if (fd_ < 0) fail("cannot write {}: {}", path_, std::strerror(errno));
}

AppendFile::~AppendFile() {
  write_pending();
  ::close(fd_);
}

bool AppendFile::flush() {
  const int error = write_pending();
  const bool waits = error != 0;
  if (waits && !waits_) {
    log_warning("cannot write {}: {}; the run goes on, and what belongs there waits for room",
                path_, std::strerror(error));
  }
  if (waits_ && !waits) log_info("{} is written again, with nothing missing", path_);
  waits_ = waits;
  return !waits;
}

int AppendFile::write_pending() {
  size_t written = 0;
  int error = 0;
  while (written < pending_.size() && error == 0) {
    const ssize_t n = ::write(fd_, pending_.data() + written, pending_.size() - written);
    if (n > 0) {
      written += size_t(n);
    } else if (n == 0 || errno != EINTR) {
      error = n == 0 ? ENOSPC : errno;
    }
  }
  pending_.erase(0, written);
  return error;
}

}  // namespace forja
