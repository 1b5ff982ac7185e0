// SPDX-License-Identifier: Apache-2.0
// Large files are written and read past the page cache where the file system offers it, and whole
// whatever it does: pwrite and pread are replaced here by ones with faults.
#include "forja/base/large_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <limits>

#include "csrc/base/file_io.h"
#include "forja/base/error.h"
#include "forja/base/read_ahead.h"
#include "tests/testing/testing.h"

namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct Disk {
  std::atomic<bool> refuses_direct = false;
  std::atomic<int64_t> most_bytes = kNever;  // of a call
  std::atomic<int64_t> fails_from = kNever;  // offset
  std::atomic<int> error = 0, interruptions = 0;
  std::atomic<int64_t> num_direct = 0;  // calls
};
Disk* disk = nullptr;

// How many of the bytes a call may move; -1: it fails.
int64_t allowed(int fd, int64_t bytes, int64_t offset) {
  if (!disk) return bytes;
  const bool direct = forja::is_direct(fd);
  if (disk->interruptions > 0) {
    --disk->interruptions;
    errno = EINTR;
    return -1;
  }
  if (direct && disk->refuses_direct) {
    errno = EINVAL;
    return -1;
  }
  if (offset >= disk->fails_from) {
    errno = disk->error;
    return -1;
  }
  disk->num_direct += direct;
  return std::min({bytes, disk->most_bytes.load(), disk->fails_from - offset});
}

}  // namespace

extern "C" ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  const int64_t n = allowed(fd, int64_t(bytes), offset);
  return n < 0 ? -1 : ::syscall(SYS_pwrite64, fd, data, n, offset);
}

extern "C" ssize_t pread(int fd, void* data, size_t bytes, off_t offset) {
  const int64_t n = allowed(fd, int64_t(bytes), offset);
  return n < 0 ? -1 : ::syscall(SYS_pread64, fd, data, n, offset);
}

namespace forja {
namespace {

// No two blocks, pages or words of it are the same.
const std::string& contents() {
  static const std::string text = [] {
    std::string out(size_t(6 * kBlockBytes), '\0');
    uint64_t x = 1;
    for (char& c : out) {
      x = x * 6364136223846793005u + 1442695040888963407u;
      c = char(x >> 56);
    }
    return out;
  }();
  return text;
}

class LargeFileTest : public ::testing::Test {
 protected:
  void SetUp() override { disk = &disk_; }
  void TearDown() override { disk = nullptr; }

  void write(int64_t bytes, int64_t at_once = kBlockBytes / 3 + 7) {
    LargeFile file(path_);
    for (int64_t at = 0; at < bytes; at += at_once)
      file.write(contents().data() + at, std::min(at_once, bytes - at));
    EXPECT_EQ(file.bytes_written(), bytes);
    file.commit();
  }
  void expect_written(int64_t bytes) {
    const MappedFile found(path_);
    ASSERT_EQ(found.size(), bytes);
    EXPECT_TRUE(found.text() == std::string_view(contents()).substr(0, size_t(bytes)));
  }
  int64_t num_files() const {
    return std::distance(std::filesystem::directory_iterator(folder_.path()), {});
  }
  // Whether this file system has direct writes at all.
  bool has_direct() const {
    write_file(folder_.file("probe"), "x");
    const int fd = ::open(folder_.file("probe").c_str(), O_RDONLY | O_CLOEXEC);
    const bool out = set_direct(fd, true);
    ::close(fd);
    std::filesystem::remove(folder_.file("probe"));
    return out;
  }

  Disk disk_;
  testing::TemporaryDirectory folder_;
  std::string path_ = folder_.file("file");
};

TEST_F(LargeFileTest, EverySizeIsWhole) {
  for (const int64_t blocks : {0, 1, 2, 5}) {
    for (const int64_t more : {-4097, -1, 0, 1, 4096, 5000}) {
      const int64_t bytes = blocks * kBlockBytes + more;
      if (bytes < 0) continue;
      SCOPED_TRACE(bytes);
      disk_.num_direct = 0;
      write(bytes);
      expect_written(bytes);
      if (has_direct()) {
        EXPECT_EQ(disk_.num_direct, bytes / kBlockBytes);
      }
    }
  }
  EXPECT_EQ(num_files(), 1);
}

TEST_F(LargeFileTest, InOneCallOrInMany) {
  for (const int64_t at_once : {kBlockBytes, 3 * kBlockBytes, 5 * kBlockBytes, int64_t(40001)}) {
    write(5 * kBlockBytes + 11, at_once);
    expect_written(5 * kBlockBytes + 11);
  }
}

TEST_F(LargeFileTest, AFileSystemThatRefusesDirectWrites) {
  disk_.refuses_direct = true;
  write(3 * kBlockBytes + 5);
  expect_written(3 * kBlockBytes + 5);
  EXPECT_EQ(disk_.num_direct, 0);
}

TEST_F(LargeFileTest, AFileSystemInMemory) {
  if (!std::filesystem::is_directory("/dev/shm")) GTEST_SKIP() << "no /dev/shm here";
  path_ = fmt::format("/dev/shm/forja-large-file-test-{}", ::getpid());
  write(3 * kBlockBytes + 5);
  expect_written(3 * kBlockBytes + 5);
  std::filesystem::remove(path_);
}

TEST_F(LargeFileTest, ShortAndInterruptedWritesGoOn) {
  for (const int64_t most : {int64_t(12345), int64_t(1) << 20, kBlockBytes - 512}) {
    SCOPED_TRACE(most);
    disk_.most_bytes = most;
    disk_.interruptions = 3;
    write(2 * kBlockBytes + 4321);
    expect_written(2 * kBlockBytes + 4321);
  }
}

// The call that hears of it may be any later one.
TEST_F(LargeFileTest, AFullDiskLeavesNothing) {
  write_file(path_, "old");
  disk_.error = ENOSPC;
  for (const int64_t full : {int64_t(0), int64_t(4096), 2 * kBlockBytes + 8192, 5 * kBlockBytes}) {
    SCOPED_TRACE(full);
    disk_.fails_from = full;
    const std::string message = testing::error_of([&] { write(5 * kBlockBytes + 77); });
    EXPECT_EQ(message,
              fmt::format("cannot write {} after {} bytes: No space left on device", path_, full));
    EXPECT_EQ(num_files(), 1) << "the partial file is gone";
    EXPECT_EQ(read_file(path_), "old");
  }
}

TEST_F(LargeFileTest, NothingUnderTheNameWithoutCommit) {
  LargeFile(path_).write(contents().data(), 3 * kBlockBytes);
  EXPECT_EQ(num_files(), 0);
}

// ---- Reading

class ReadAheadTest : public LargeFileTest {
 protected:
  void SetUp() override {
    write_file(path_, contents());
    LargeFileTest::SetUp();
  }
  struct Part {
    int64_t begin, bytes;
  };
  void expect_reads(const std::vector<Part>& parts) {
    for (const PageCache cache : {PageCache::use, PageCache::bypass}) {
      SCOPED_TRACE(cache == PageCache::use ? "through the cache" : "past the cache");
      const InputFile file(path_, cache);
      ReadAhead reader;
      for (const Part& part : parts) reader.expect({&file, part.begin, part.bytes});
      for (const Part& part : parts) {
        const std::string_view found(reinterpret_cast<const char*>(reader.next()),
                                     size_t(part.bytes));
        EXPECT_TRUE(found == contents().substr(size_t(part.begin), size_t(part.bytes)))
            << part.begin << " " << part.bytes;
      }
    }
  }
  const int64_t size_ = int64_t(contents().size());
};

TEST_F(ReadAheadTest, PartsOfAFileInAnyOrder) {
  std::vector<Part> neighbours;
  for (int64_t at = 13, bytes = 1; at + bytes < size_; at += bytes, bytes = bytes * 5 / 2 + 1)
    neighbours.push_back({at, bytes});
  expect_reads(neighbours);
  std::reverse(neighbours.begin(), neighbours.end());
  expect_reads(neighbours);
  expect_reads({{0, size_}, {size_ - 1, 1}, {0, 1}, {size_ - 4097, 4097}, {5, 0}});
  expect_reads({{4095, 2}, {4096, 4096}, {kBlockBytes - 1, kBlockBytes}, {100, kBlockBytes + 1}});
  if (has_direct()) {
    EXPECT_GT(disk_.num_direct, 0);
  }
}

// More than may be read ahead, each next to the one before.
TEST_F(ReadAheadTest, ManyPieces) {
  std::vector<Part> parts;
  for (int repeat = 0; repeat < 3; ++repeat)
    for (int64_t at = 0; at + 300'000 <= size_; at += 300'000) parts.push_back({at, 300'000});
  expect_reads(parts);
}

TEST_F(ReadAheadTest, NeighboursAreReadTogether) {
  if (!has_direct()) GTEST_SKIP() << "this file system has no direct reads";
  const InputFile file(path_, PageCache::bypass);
  ReadAhead reader;
  for (int64_t at = 0; at < kBlockBytes; at += 4096) reader.expect({&file, at, 4096});
  for (int64_t at = 0; at < kBlockBytes; at += 4096) reader.next();
  EXPECT_EQ(disk_.num_direct, 1);
}

TEST_F(ReadAheadTest, WhatIsExpectedLaterComesToo) {
  const InputFile file(path_, PageCache::bypass);
  ReadAhead reader;
  for (int64_t i = 0; i < 50; ++i) {
    reader.expect({&file, i * 1000, 1000});
    EXPECT_EQ(*reader.next(), uint8_t(contents()[size_t(i * 1000)]));
  }
  for (int64_t i = 0; i < 50; ++i) reader.expect({&file, i * 1000, 1000});  // and is not asked for
}

TEST_F(ReadAheadTest, RefusedShortAndInterruptedReadsGoOn) {
  disk_.refuses_direct = true;
  expect_reads({{10, size_ - 20}});
  EXPECT_EQ(disk_.num_direct, 0);
  disk_.refuses_direct = false;
  for (const int64_t most : {int64_t(12345), int64_t(1) << 20}) {
    disk_.most_bytes = most;
    disk_.interruptions = 3;
    expect_reads({{10, size_ - 20}, {3, 5}});
  }
}

TEST_F(ReadAheadTest, AFileSystemInMemory) {
  if (!std::filesystem::is_directory("/dev/shm")) GTEST_SKIP() << "no /dev/shm here";
  path_ = fmt::format("/dev/shm/forja-read-ahead-test-{}", ::getpid());
  write_file(path_, contents());
  expect_reads({{10, size_ - 20}, {3, 5}});
  std::filesystem::remove(path_);
}

TEST_F(ReadAheadTest, AnErrorOfTheDiskIsOfTheRangeThatHasIt) {
  disk_.error = EIO;
  disk_.fails_from = 2 * kBlockBytes;
  const InputFile file(path_, PageCache::bypass);
  ReadAhead reader;
  reader.expect({&file, 0, 100});
  reader.expect({&file, 2 * kBlockBytes, 100});
  reader.expect({&file, 200, 100});
  reader.next();
  const std::string message = testing::error_of([&] { reader.next(); }, ExitCode::bad_input);
  EXPECT_EQ(message,
            fmt::format("cannot read {} at byte {}: Input/output error", path_, 2 * kBlockBytes));
  EXPECT_EQ(*reader.next(), uint8_t(contents()[200]));
}

TEST_F(ReadAheadTest, AFileThatBecameShorterIsNamed) {
  const InputFile file(path_, PageCache::bypass);
  std::filesystem::resize_file(path_, 1000);
  ReadAhead reader;
  reader.expect({&file, 500, 1000});
  const std::string message = testing::error_of([&] { reader.next(); }, ExitCode::bad_input);
  EXPECT_EQ(message, path_ +
                         " became shorter while it was read: expected 1500 bytes or more, "
                         "found 1000");
}

TEST_F(ReadAheadTest, WhatIsNoFileIsBadInput) {
  const auto open = [](const std::string& path, Links links) {
    return testing::error_of([&] { InputFile(path, PageCache::bypass, links); },
                             ExitCode::bad_input);
  };
  EXPECT_NE(open(folder_.path(), Links::follow).find("is not a regular file"), std::string::npos);
  std::filesystem::create_symlink(path_, folder_.file("link"));
  EXPECT_NE(open(folder_.file("link"), Links::refuse).find("is a symbolic link"),
            std::string::npos);
}

}  // namespace
}  // namespace forja
