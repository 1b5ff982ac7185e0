// SPDX-License-Identifier: Apache-2.0
// The counters behind Communicator::volumes.
#pragma once

#include <mutex>
#include <vector>

#include "forja/comm/communicator.h"

namespace forja {

class VolumeCounter {
 public:
  void add(const CommLabel& label, CommKind kind, int64_t bytes);
  std::vector<CommVolume> volumes() const;
  void reset();

 private:
  mutable std::mutex mutex_;  // volumes() may come from another thread than the calls
  std::vector<CommVolume> volumes_;
};

}  // namespace forja
