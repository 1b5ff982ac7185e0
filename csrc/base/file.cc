// SPDX-License-Identifier: Apache-2.0
#include "forja/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "csrc/base/file_io.h"
#include "forja/base/error.h"

namespace forja {
namespace fs = std::filesystem;

MappedFile::MappedFile(const std::string& path, Links links) {
  const auto [fd, size] = open_input(path, links);
  size_ = size;
  if (size_ > 0) {
    void* mapped = ::mmap(nullptr, size_t(size_), PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
      const int error = errno;
      ::close(fd);
      fail("cannot map {} ({} bytes): {}", path, size_, std::strerror(error));
    }
    data_ = static_cast<const uint8_t*>(mapped);
  }
  ::close(fd);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_t(size_));
}

void MappedFile::prefetch(int64_t begin, int64_t bytes) const {
  if (bytes <= 0) return;
  const int64_t page = ::sysconf(_SC_PAGESIZE), first = begin / page * page;
  ::madvise(const_cast<uint8_t*>(data_) + first, size_t(begin + bytes - first), MADV_WILLNEED);
}

void MappedFile::release(int64_t begin, int64_t bytes) const {
  const int64_t page = ::sysconf(_SC_PAGESIZE), first = (begin + page - 1) / page * page,
                last = (begin + bytes) / page * page;
  if (first < last) {
    ::madvise(const_cast<uint8_t*>(data_) + first, size_t(last - first), MADV_DONTNEED);
  }
}

std::string read_file(const std::string& path, Links links) {
  return std::string(MappedFile(path, links).text());
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  temporary_ = fmt::format("{}.tmp-{}", path_, ::getpid());
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd_ < 0) fail("cannot write {}: {}", path_, std::strerror(errno));
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(const void* data, int64_t bytes) {
  const char* at = static_cast<const char*>(data);
  bytes_ += bytes;
  while (bytes > 0) {
    const ssize_t done = ::write(fd_, at, size_t(bytes));
    if (done < 0) {
      if (errno == EINTR) continue;
      fail("cannot write {} after {} bytes: {}", path_, bytes_ - bytes, std::strerror(errno));
    }
    at += done;
    bytes -= done;
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail("cannot sync {}: {}", path_, std::strerror(errno));
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0) fail("cannot close {}: {}", path_, std::strerror(errno));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail("cannot rename {} into place: {}", path_, std::strerror(error));
  }
}

void write_file(const std::string& path, std::string_view contents) {
  AtomicFile file(path);
  file.write(contents);
  file.commit();
}

void make_directories(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail("cannot create the directory {}: {}", path, error.message());
}

void check_writable(const std::string& path) {
  fs::path nearest = fs::absolute(path).lexically_normal();
  struct stat info {};
  while (::stat(nearest.c_str(), &info) != 0) {
    if (errno != ENOENT && errno != ENOTDIR)
      fail_input("cannot write {}: {}", path, std::strerror(errno));
    nearest = nearest.parent_path();
  }
  if (!S_ISDIR(info.st_mode))
    fail_input("cannot write {}: {} is not a directory", path, nearest.string());
  std::string probe = (nearest / ".forja-XXXXXX").string();
  if (!::mkdtemp(probe.data())) {
    fail_input("cannot write {}: a folder cannot be made in {}: {}", path, nearest.string(),
               std::strerror(errno));
  }
  ::rmdir(probe.c_str());
}

namespace {

void sync(const std::string& path, int kind, const char* what) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | kind);
  if (fd < 0) fail("cannot open {}{}: {}", what, path, std::strerror(errno));
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (error != 0) fail("cannot sync {}{}: {}", what, path, std::strerror(error));
}

}  // namespace

void sync_file(const std::string& path) { sync(path, 0, ""); }

void sync_directory(const std::string& path) { sync(path, O_DIRECTORY, "the directory "); }

bool file_exists(const std::string& path) {
  std::error_code nobody_may_look;
  return fs::exists(path, nobody_may_look);
}

bool is_file_name(std::string_view name) {
  return !name.empty() && name[0] != '.' &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

std::string resolve_path(const std::string& path, const std::string& base_file) {
  const fs::path p(path);
  if (p.is_absolute()) return path;
  return (fs::path(base_file).parent_path() / p).lexically_normal().string();
}

}  // namespace forja
