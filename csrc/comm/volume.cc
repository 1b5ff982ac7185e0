// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/volume.h"

#include <algorithm>
#include <utility>

namespace forja {

std::string_view comm_kind_name(CommKind kind) {
  constexpr std::string_view kNames[] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast",
                                         "all_to_all", "exchange",       "barrier",    "split"};
  return kNames[int(kind)];
}

int64_t comm_volume_bytes(CommKind kind, int64_t buffer_bytes, int num_ranks) {
  if (num_ranks == 1) return 0;
  switch (kind) {
    case CommKind::all_reduce:
      return 2 * (num_ranks - 1) * buffer_bytes / num_ranks;
    case CommKind::reduce_scatter:
    case CommKind::all_gather:
    case CommKind::all_to_all:
      return (num_ranks - 1) * buffer_bytes / num_ranks;
    case CommKind::broadcast:
    case CommKind::exchange:
      return buffer_bytes;
    case CommKind::barrier:
    case CommKind::split:
      return 0;
  }
  return 0;
}

void VolumeCounter::add(const CommLabel& label, CommKind kind, int64_t bytes) {
  std::lock_guard lock(mutex_);
  // A run has few purposes: looking through them costs less than a map.
  auto it = std::find_if(volumes_.begin(), volumes_.end(), [&](const CommVolume& v) {
    return v.kind == kind && v.purpose == label.purpose;
  });
  if (it == volumes_.end()) it = volumes_.insert(it, CommVolume{label.purpose, kind, 0, 0});
  ++it->calls;
  it->bytes += bytes;
}

std::vector<CommVolume> VolumeCounter::volumes() const {
  std::lock_guard lock(mutex_);
  return volumes_;
}

void VolumeCounter::reset() {
  std::lock_guard lock(mutex_);
  volumes_.clear();
}

void CommTrace::add(const CommSpan& span) {
  std::lock_guard lock(mutex_);
  spans_.push_back(span);
}

std::vector<CommSpan> CommTrace::take() {
  std::lock_guard lock(mutex_);
  return std::exchange(spans_, {});
}

}  // namespace forja
