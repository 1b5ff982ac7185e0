// SPDX-License-Identifier: Apache-2.0
// Reading gigabytes at the speed of the disk: parts of files that are needed one after the other
// are read by a thread, in large blocks, while those before them are used. A mapping would read
// 128 to 256 KiB at each page fault instead, and end the process when the disk fails.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "forja/base/file.h"

namespace forja {

enum class PageCache {
  use,     // where other processes of this machine, or later ones, read the same
  bypass,  // where nobody does: the fastest, where the file system offers it
};

// A file open for reading. Throws bad_input as MappedFile does.
class InputFile {
 public:
  InputFile(const std::string& path, PageCache cache, Links links = Links::follow);
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();

  // Reads up to `bytes` bytes from `offset`, fewer at the end of the file only; returns how many.
  // With PageCache::bypass all three are multiples of a page.
  int64_t read(uint8_t* to, int64_t bytes, int64_t offset) const;
  // Starts reading into the page cache, if that is used, and returns at once.
  void prefetch(int64_t offset, int64_t bytes) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

// Used by one thread; has one of its own, from the first next() on.
class ReadAhead {
 public:
  struct Range {
    const InputFile* file;  // not owned
    int64_t begin, bytes;
  };

  ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  // Waits for the block that is being read.
  ~ReadAhead();

  // This one is needed after those before it. Neighbours in a file are read together.
  void expect(const Range& range);
  // The bytes of the next range that is expected, valid until the next call; waits for them. Throws
  // bad_input, naming the file, when they cannot be read or end too early.
  const uint8_t* next();

 private:
  struct Block;

  void read_blocks();
  std::unique_ptr<Block> take_ranges();
  std::vector<Range> take_prefetch();
  static void read(Block& block);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Range> waiting_;                 // not read yet; the first of them ...
  size_t prefetched_ = 0;                     // ... are on their way into the page cache
  std::deque<std::unique_ptr<Block>> ready_;  // read; the first one is in use
  int64_t ready_bytes_ = 0;
  std::vector<std::unique_ptr<Block>> unused_;  // keep their memory
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace forja
