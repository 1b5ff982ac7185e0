// SPDX-License-Identifier: Apache-2.0
// Owned memory. An Arena hands out pieces of one block by bumping an offset; nothing is freed
// singly. Running the same code once on a planning arena (which hands out no memory, only counts)
// gives the exact size of the block that the real run needs: memory is known before step 0.
#pragma once

#include <cstdint>
#include <string>

#include "forja/device/device.h"

namespace forja {

class Arena {
 public:
  static constexpr int64_t kAlignment =
      64;  // bytes; a cache line, an AVX-512 vector, four accesses of a GPU's thread

  // A planning arena: allocate() returns nullptr and counts.
  explicit Arena(std::string name, Device device = {});
  // A real one of `capacity_bytes` on `device`. Host memory is mapped lazily by the system in large
  // pages where it can, so every byte is on the memory node of the thread that first touches it.
  // Throws when there is not enough.
  Arena(std::string name, Device device, int64_t capacity_bytes);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  // `bytes` bytes aligned to kAlignment. Throws when a real arena is full: a fault of the plan,
  // never of the user.
  void* allocate(int64_t bytes);

  // Takes the pages of host memory from the system now, where it can, and not at their first use.
  void populate();
  // Keeps host memory where it is, so that copies to and from a GPU need not stage it.
  void pin();

  // The stack discipline of scratch memory: everything allocated after mark() is given back by
  // release(mark).
  int64_t mark() const { return used_; }
  void release(int64_t mark) { used_ = mark; }

  Device device() const { return device_; }
  bool planning() const { return block_ == nullptr; }
  int64_t used_bytes() const { return used_; }
  int64_t peak_bytes() const { return peak_; }
  int64_t capacity_bytes() const { return capacity_; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  Device device_;
  uint8_t* block_ = nullptr;
  bool pinned_ = false;
  int64_t capacity_ = 0, used_ = 0, peak_ = 0;
};

// Gives back what was allocated from an arena within a scope.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;
  ~ArenaScope() { arena_.release(mark_); }

 private:
  Arena& arena_;
  int64_t mark_;
};

}  // namespace forja
