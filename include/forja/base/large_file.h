// SPDX-License-Identifier: Apache-2.0
// Writing a file of gigabytes at the speed of the disk. Through the page cache the writer waits for
// the system to write back what it wrote before, and takes the memory of others meanwhile. Here
// whole blocks go past it (O_DIRECT) while the next ones are filled; where a file system does not
// offer that, they go through it as any other write.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "forja/base/file.h"

namespace forja {

class AlignedBuffer;

// As AtomicFile: beside its name until commit(). One thread at a time; a thread of its own, which a
// file of more than a block starts, writes.
class LargeFile {
 public:
  explicit LargeFile(const std::string& path);
  LargeFile(const LargeFile&) = delete;
  LargeFile& operator=(const LargeFile&) = delete;
  ~LargeFile();

  // Copies `data`. That an earlier block could not be written may be thrown by any later call.
  void write(const void* data, int64_t bytes);
  void write(std::string_view text) { write(text.data(), int64_t(text.size())); }
  int64_t bytes_written() const { return bytes_; }
  // Once: nothing is written afterwards.
  void commit();

 private:
  AlignedBuffer& block(int64_t index);
  void wait_for_room();
  void hand_over();
  void write_blocks();
  void join();
  // Of the file from `offset`; short writes go on.
  void write_at(const uint8_t* data, int64_t bytes, int64_t offset);

  AtomicFile file_;
  std::vector<AlignedBuffer> blocks_;  // block i of the file is in one of them
  int64_t bytes_ = 0, in_block_ = 0;   // of the file; of the block that is filled

  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t filled_ = 0, written_ = 0;  // blocks
  bool complete_ = false;             // no more blocks come
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace forja
