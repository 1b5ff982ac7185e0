// SPDX-License-Identifier: Apache-2.0
#include "forja/device/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "forja/base/error.h"
#include "forja/base/text.h"
#include "forja/device/gpu_runtime.h"

namespace forja {

Arena::Arena(std::string name, Device device) : name_(std::move(name)), device_(device) {}

Arena::Arena(std::string name, Device device, int64_t capacity_bytes)
    : name_(std::move(name)), device_(device), capacity_(std::max(capacity_bytes, kAlignment)) {
  if (!device.is_cpu()) {
    block_ = static_cast<uint8_t*>(gpu_allocate(device, capacity_, name_));
    return;
  }
  void* block = ::mmap(nullptr, size_t(capacity_), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) {
    fail("not enough memory for {}: {} wanted: {}", name_, format_bytes(double(capacity_)),
         std::strerror(errno));
  }
  ::madvise(block, size_t(capacity_), MADV_HUGEPAGE);
  block_ = static_cast<uint8_t*>(block);
}

Arena::~Arena() {
  if (!block_) return;
  if (pinned_) unpin_host(block_);
  if (device_.is_cpu()) {
    ::munmap(block_, size_t(capacity_));
  } else {
    gpu_free(block_);
  }
}

void Arena::populate() {
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14; older systems refuse it
#endif
  if (block_ && device_.is_cpu()) ::madvise(block_, size_t(capacity_), MADV_POPULATE_WRITE);
}

void Arena::pin() {
  pin_host(block_, capacity_);
  pinned_ = true;
}

void* Arena::allocate(int64_t bytes) {
  const int64_t begin = used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  peak_ = std::max(peak_, used_);
  if (planning()) return nullptr;
  FORJA_CHECK(used_ <= capacity_, "arena {} is full: {} bytes planned, {} asked for", name_,
              capacity_, used_);
  return block_ + begin;
}

}  // namespace forja
