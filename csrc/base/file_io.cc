// SPDX-License-Identifier: Apache-2.0
#include "csrc/base/file_io.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "forja/base/error.h"

namespace forja {

OpenedInput open_input(const std::string& path, Links links) {
  // Without O_NONBLOCK, a pipe would wait for somebody to write into it.
  const int no_links = links == Links::refuse ? O_NOFOLLOW : 0;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | no_links);
  if (fd < 0 && errno == ELOOP && no_links)
    fail_input("{} is a symbolic link, which may lead anywhere: put the file itself there", path);
  if (fd < 0) fail_input("cannot open {}: {}", path, std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    fail_input("{} is not a regular file", path);
  }
  return {fd, info.st_size};
}

// Disks ask for 512 or 4096 bytes, some file systems for a page.
int64_t direct_alignment() { return std::max<int64_t>(4096, ::sysconf(_SC_PAGESIZE)); }

bool is_direct(int fd) { return (::fcntl(fd, F_GETFL) & O_DIRECT) != 0; }

bool set_direct(int fd, bool direct) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

AlignedBuffer::AlignedBuffer(int64_t bytes) {
  constexpr int64_t kLargePage = int64_t(2) << 20;
  capacity_ = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  data_.reset(static_cast<uint8_t*>(std::aligned_alloc(size_t(kLargePage), size_t(capacity_))));
  if (!data_) throw std::bad_alloc();
  ::madvise(data_.get(), size_t(capacity_), MADV_HUGEPAGE);
}

}  // namespace forja
