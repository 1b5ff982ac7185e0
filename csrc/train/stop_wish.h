// SPDX-License-Identifier: Apache-2.0
// When a run should stop before its end, after a step and with a checkpoint: a signal came, or its
// time is nearly over.
#pragma once

#include <algorithm>
#include <chrono>

#include "forja/base/stop_signal.h"

namespace forja {

class StopWish {
 public:
  // Time counts from now; limit_s 0: no limit.
  explicit StopWish(double limit_s) : limit_s_(limit_s) {}

  // "SIGTERM", "SIGUSR1", "train.time_limit_minutes"; nullptr: the run may go on. A last save may
  // take save_s.
  const char* reason(double save_s) const {
    if (const char* signal = signal_.received()) return signal;
    if (limit_s_ == 0.0) return nullptr;
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - started_;
    return passed.count() + longest_step_s_ + save_s > limit_s_ ? "train.time_limit_minutes"
                                                                : nullptr;
  }
  // Of a save while none has ended.
  double guess_of_save_s() const { return std::min(60.0, 0.05 * limit_s_); }
  // What the next one may take.
  void took_step(double seconds) { longest_step_s_ = std::max(longest_step_s_, seconds); }

 private:
  const double limit_s_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  const StopSignal signal_;
  double longest_step_s_ = 0.0;
};

}  // namespace forja
