// SPDX-License-Identifier: Apache-2.0
#include "forja/base/large_file.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "csrc/base/file_io.h"
#include "forja/base/error.h"

namespace forja {

// Blocks: one is being filled and one written; the others are ready, so that the disk has work when
// this thread or that one waits for a core.
constexpr size_t kNumBlocks = 4;

LargeFile::LargeFile(const std::string& path) : file_(path), blocks_(kNumBlocks) {}

LargeFile::~LargeFile() { join(); }

AlignedBuffer& LargeFile::block(int64_t index) { return blocks_[size_t(index) % blocks_.size()]; }

void LargeFile::write(const void* data, int64_t bytes) {
  const auto* from = static_cast<const uint8_t*>(data);
  while (bytes > 0) {
    if (in_block_ == 0) wait_for_room();
    const int64_t here = std::min(bytes, kBlockBytes - in_block_);
    std::memcpy(block(filled_).data() + in_block_, from, size_t(here));
    from += here;
    bytes -= here;
    bytes_ += here;
    in_block_ += here;
    if (in_block_ == kBlockBytes) hand_over();
  }
}

void LargeFile::wait_for_room() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return error_ || filled_ - written_ < int64_t(blocks_.size()); });
  if (error_) std::rethrow_exception(error_);
  if (!block(filled_).data()) block(filled_) = AlignedBuffer(kBlockBytes);
}

void LargeFile::hand_over() {
  if (!thread_.joinable()) {
    set_direct(file_.descriptor(), true);
    thread_ = std::thread([this] { write_blocks(); });
  }
  {
    const std::lock_guard lock(mutex_);
    ++filled_;
  }
  changed_.notify_all();
  in_block_ = 0;
}

void LargeFile::write_blocks() {
  std::unique_lock lock(mutex_);
  try {
    while (true) {
      changed_.wait(lock, [this] { return complete_ || written_ < filled_; });
      if (written_ == filled_) return;
      const uint8_t* const data = block(written_).data();
      lock.unlock();
      write_at(data, kBlockBytes, written_ * kBlockBytes);
      lock.lock();
      ++written_;
      changed_.notify_all();
    }
  } catch (...) {
    lock.lock();
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

void LargeFile::join() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    complete_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void LargeFile::write_at(const uint8_t* data, int64_t bytes, int64_t offset) {
  const int fd = file_.descriptor();
  while (bytes > 0) {
    const ssize_t done = ::pwrite(fd, data, size_t(bytes), offset);
    if (done > 0) {
      data += done;
      offset += done;
      bytes -= done;
      continue;
    }
    if (done < 0 && errno == EINTR) continue;
    // Some file systems refuse only the write itself; and a short one ends where none may begin.
    if (done < 0 && errno == EINVAL && is_direct(fd) && set_direct(fd, false)) continue;
    fail("cannot write {} after {} bytes: {}", file_.path(), offset,
         std::strerror(done == 0 ? ENOSPC : errno));
  }
}

void LargeFile::commit() {
  join();
  if (error_) std::rethrow_exception(error_);
  if (in_block_ > 0) {  // what is no whole block
    if (is_direct(file_.descriptor())) set_direct(file_.descriptor(), false);
    write_at(block(filled_).data(), in_block_, filled_ * kBlockBytes);
  }
  file_.commit();
}

}  // namespace forja
