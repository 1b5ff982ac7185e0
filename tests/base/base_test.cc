// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <thread>
#include <vector>

#include "forja/base/dtype.h"
#include "forja/base/file.h"
#include "forja/base/hash.h"
#include "forja/base/philox.h"
#include "forja/base/text.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

TEST(BFloat16, RoundsToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(float(BFloat16(1.0f)), 1.0f);
  EXPECT_EQ(BFloat16(1.0f + 1.0f / 256).bits, 0x3f80) << "half way: to even";
  EXPECT_EQ(BFloat16(1.0f + 3.0f / 256).bits, 0x3f82) << "half way: to even";
  EXPECT_EQ(BFloat16(1.0f + 1.1f / 256).bits, 0x3f81);
  EXPECT_EQ(float(BFloat16(std::numeric_limits<float>::max())), INFINITY);
  EXPECT_TRUE(std::isnan(float(BFloat16(NAN))));
}

TEST(Half, EveryValueConvertsBackToItself) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = half_to_float(uint16_t(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(float_to_half(value), bits) << value;
  }
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(1e-9f), 0);
}

// Known answers of the authors' reference implementation (Random123, kat_vectors: philox4x32 10).
TEST(Philox, KnownAnswers) {
  const Philox4 zero = philox(0, 0, 0);
  EXPECT_EQ(zero.v[0], 0x6627e8d5u);
  EXPECT_EQ(zero.v[1], 0xe169c58du);
  EXPECT_EQ(zero.v[2], 0xbc57ac4cu);
  EXPECT_EQ(zero.v[3], 0x9b00dbd8u);
  const Philox4 ones = philox(~0ull, ~0ull, ~0ull);
  EXPECT_EQ(ones.v[0], 0x408f276du);
  EXPECT_EQ(ones.v[3], 0x6d5451fdu);
}

TEST(Text, NearestName) {
  const std::vector<std::string> names = {"steps", "seed", "global_batch_size"};
  EXPECT_EQ(nearest_name("step", names), "steps");
  EXPECT_EQ(nearest_name("globl_batch_sise", names), "global_batch_size");
  EXPECT_EQ(nearest_name("banana", names), "");
}

TEST(Text, Quantities) {
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_count(1235814400), "1.24 B");
  EXPECT_EQ(format_duration(3723), "1h 02m");
}

TEST(Text, Utf8Validity) {
  int64_t at = -1;
  EXPECT_TRUE(is_valid_utf8("plain, ñandú, 漢字, 😀", nullptr));
  EXPECT_FALSE(is_valid_utf8("ab\xff", &at));
  EXPECT_EQ(at, 2);
  EXPECT_FALSE(is_valid_utf8("\xc0\xaf", &at)) << "overlong";
  EXPECT_FALSE(is_valid_utf8("\xed\xa0\x80", &at)) << "surrogate";
  EXPECT_FALSE(is_valid_utf8("a\xe2\x82", &at)) << "cut short";
  EXPECT_EQ(at, 1);
}

TEST(AtomicFile, NothingUnderTheNameBeforeCommit) {
  testing::TemporaryDirectory folder;
  const std::string path = folder.file("x");
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
    EXPECT_EQ(read_file(path), "old");
  }
  EXPECT_EQ(read_file(path), "old");
  int files = 0;
  for ([[maybe_unused]] const auto& item : std::filesystem::directory_iterator(folder.path()))
    ++files;
  EXPECT_EQ(files, 1) << "the partial file is gone";
}

TEST(AtomicFile, FullDiskIsAnErrorWithItsReason) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const std::string message = testing::error_of([] { write_file("/proc/forja-test", "x"); });
  EXPECT_NE(message.find("cannot write /proc/forja-test"), std::string::npos);
}

// How much of a mapped file is in memory.
int64_t num_resident_pages(const MappedFile& file) {
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  std::vector<unsigned char> resident(size_t((file.size() + page - 1) / page));
  EXPECT_EQ(::mincore(const_cast<uint8_t*>(file.data()), size_t(file.size()), resident.data()), 0);
  return std::count_if(resident.begin(), resident.end(), [](unsigned char r) { return r & 1; });
}

TEST(MappedFile, PrefetchReadsAhead) {
  constexpr int64_t kBytes = int64_t(4) << 20;
  const testing::TemporaryDirectory directory;
  const std::string path = directory.path() + "/file";
  write_file(path, std::string(size_t(kBytes), 'x'));
  const int fd = ::open(path.c_str(), O_RDONLY);
  ::fsync(fd);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
  const MappedFile file(path);
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  if (num_resident_pages(file) > 0) GTEST_SKIP() << "this file system keeps files in memory";
  file.prefetch(10 * page + 5, 64 * page);
  for (int i = 0; i < 500 && num_resident_pages(file) < 65; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_GE(num_resident_pages(file), 65);
  file.prefetch(kBytes - 1, 1);
  file.prefetch(kBytes, 0);
}

TEST(MappedFile, MissingFileIsBadInput) {
  const std::string message =
      testing::error_of([] { MappedFile("/nonexistent/file"); }, ExitCode::bad_input);
  EXPECT_EQ(message, "cannot open /nonexistent/file: No such file or directory");
}

TEST(Hash, IsStable) { EXPECT_EQ(hash_hex(hash_text("forja")), hash_hex(hash_bytes("forja", 5))); }

TEST(Path, RelativeToTheFileThatHoldsIt) {
  EXPECT_EQ(resolve_path("../data/x", "configs/runs/a.yaml"), "configs/data/x");
  EXPECT_EQ(resolve_path("/abs", "configs/a.yaml"), "/abs");
}

}  // namespace
}  // namespace forja
