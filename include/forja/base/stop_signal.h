// SPDX-License-Identifier: Apache-2.0
// SIGTERM and SIGUSR1 as a wish: stop when it suits, having saved. Schedulers send them before they
// kill.
#pragma once

namespace forja {

// While it lives, these signals do nothing but being remembered. One at a time in a process.
class StopSignal {
 public:
  StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  ~StopSignal();

  // "SIGTERM" or "SIGUSR1", the last one received; nullptr: none.
  const char* received() const;
};

}  // namespace forja
