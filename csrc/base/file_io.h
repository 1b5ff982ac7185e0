// SPDX-License-Identifier: Apache-2.0
// What the ways to read and write files have in common.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "forja/base/file.h"

namespace forja {

// A regular file, open for reading; who asked closes it. Throws bad_input.
struct OpenedInput {
  int fd;
  int64_t size;
};
OpenedInput open_input(const std::string& path, Links links);

// Of one read or write: large enough that what each costs in itself does not count.
constexpr int64_t kBlockBytes = int64_t(8) << 20;
// Direct reads and writes begin and end at multiples of it, in memory and in the file.
int64_t direct_alignment();

// Whether reads and writes of the open file bypass the page cache. False where the file system does
// not offer it: it then uses the cache.
bool set_direct(int fd, bool direct);
bool is_direct(int fd);

// Memory for direct reads and writes, in large pages where the system has them.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(int64_t bytes);  // at least; throws std::bad_alloc

  uint8_t* data() const { return data_.get(); }
  int64_t capacity_bytes() const { return capacity_; }

 private:
  struct Free {
    void operator()(uint8_t* data) const { std::free(data); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  int64_t capacity_ = 0;
};

}  // namespace forja
