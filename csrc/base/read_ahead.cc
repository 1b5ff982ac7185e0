// SPDX-License-Identifier: Apache-2.0
#include "forja/base/read_ahead.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "csrc/base/file_io.h"
#include "forja/base/error.h"

namespace forja {

// ---- InputFile

InputFile::InputFile(const std::string& path, PageCache cache, Links links) : path_(path) {
  const OpenedInput opened = open_input(path, links);
  fd_ = opened.fd;
  size_ = opened.size;
  if (cache == PageCache::bypass) set_direct(fd_, true);
}

InputFile::~InputFile() { ::close(fd_); }

int64_t InputFile::read(uint8_t* to, int64_t bytes, int64_t offset) const {
  int64_t done = 0;
  while (done < bytes && offset + done < size_) {
    const ssize_t n = ::pread(fd_, to + done, size_t(bytes - done), offset + done);
    if (n == 0) break;
    if (n > 0) {
      done += n;
      continue;
    }
    if (errno == EINTR) continue;
    // Some file systems refuse only the read itself; and a short one ends where none may begin.
    if (errno == EINVAL && is_direct(fd_) && set_direct(fd_, false)) continue;
    fail_input("cannot read {} at byte {}: {}", path_, offset + done, std::strerror(errno));
  }
  return done;
}

void InputFile::prefetch(int64_t offset, int64_t bytes) const {
  if (is_direct(fd_)) return;
  // Of one request, Linux reads no more than the device takes at once, which is 1 MiB or more.
  constexpr int64_t kRequestBytes = int64_t(1) << 20;
  for (int64_t at = 0; at < bytes; at += kRequestBytes)
    ::posix_fadvise(fd_, offset + at, std::min(kRequestBytes, bytes - at), POSIX_FADV_WILLNEED);
}

// ---- ReadAhead

// So much is read and not used yet, what is in use among it.
constexpr size_t kBlocksAhead = 4;
constexpr int64_t kBytesAhead = int64_t(kBlocksAhead) * kBlockBytes;
constexpr int64_t kPrefetchBytes = kBytesAhead;

struct ReadAhead::Block {
  AlignedBuffer buffer;
  std::vector<Range> ranges;
  size_t used = 0;               // of the ranges
  int64_t begin = 0, bytes = 0;  // of the ranges, in the file
  std::exception_ptr error;
};

ReadAhead::ReadAhead() = default;

ReadAhead::~ReadAhead() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ReadAhead::expect(const Range& range) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(range);
  }
  changed_.notify_all();
}

const uint8_t* ReadAhead::next() {
  if (!thread_.joinable()) thread_ = std::thread([this] { read_blocks(); });
  std::unique_lock lock(mutex_);
  if (!ready_.empty() && ready_.front()->used == ready_.front()->ranges.size()) {
    ready_bytes_ -= ready_.front()->bytes;
    unused_.push_back(std::move(ready_.front()));
    ready_.pop_front();
    changed_.notify_all();
  }
  changed_.wait(lock, [this] { return !ready_.empty(); });
  Block& block = *ready_.front();
  const Range& range = block.ranges[block.used++];
  if (block.error) std::rethrow_exception(block.error);
  return block.buffer.data() + block.begin % direct_alignment() + (range.begin - block.begin);
}

void ReadAhead::read_blocks() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] {
      return stop_ || (!waiting_.empty() && ready_.size() < kBlocksAhead &&
                       (ready_.empty() || ready_bytes_ < kBytesAhead));
    });
    if (stop_) return;
    const std::vector<Range> prefetch = take_prefetch();
    std::unique_ptr<Block> block = take_ranges();
    lock.unlock();
    for (const Range& range : prefetch) range.file->prefetch(range.begin, range.bytes);
    try {
      read(*block);
    } catch (...) {
      block->error = std::current_exception();
    }
    lock.lock();
    ready_bytes_ += block->bytes;
    ready_.push_back(std::move(block));
    changed_.notify_all();
  }
}

// The first one that waits, and its neighbours, up to the size of a block.
std::unique_ptr<ReadAhead::Block> ReadAhead::take_ranges() {
  auto block = std::make_unique<Block>();
  if (!unused_.empty()) {
    block->buffer = std::move(unused_.back()->buffer);
    unused_.pop_back();
  }
  block->begin = waiting_.front().begin;
  do {
    const Range range = waiting_.front();
    waiting_.pop_front();
    if (prefetched_ > 0) --prefetched_;
    block->ranges.push_back(range);
    block->bytes += range.bytes;
  } while (!waiting_.empty() && waiting_.front().file == block->ranges[0].file &&
           waiting_.front().begin == block->begin + block->bytes &&
           block->bytes + waiting_.front().bytes <= kBlockBytes);
  return block;
}

// What of the next ranges is not on its way yet.
std::vector<ReadAhead::Range> ReadAhead::take_prefetch() {
  std::vector<Range> out;
  int64_t ahead = 0;
  for (size_t i = 0; i < waiting_.size() && ahead < kPrefetchBytes; ++i) {
    ahead += waiting_[i].bytes;
    if (i < prefetched_) continue;
    out.push_back(waiting_[i]);
    prefetched_ = i + 1;
  }
  return out;
}

void ReadAhead::read(Block& block) {
  const int64_t page = direct_alignment(), end = block.begin + block.bytes,
                first = block.begin / page * page, last = (end + page - 1) / page * page;
  if (block.buffer.capacity_bytes() < last - first) block.buffer = AlignedBuffer(last - first);
  const InputFile& file = *block.ranges[0].file;
  const int64_t found = first + file.read(block.buffer.data(), last - first, first);
  if (found < end) {
    fail_input("{} became shorter while it was read: expected {} bytes or more, found {}",
               file.path(), end, found);
  }
}

}  // namespace forja
