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

  // "SIGTERM", "SIGUSR1", "train.time_limit_minutes"; nullptr: the run may go on.
  const char* reason() const {
    if (const char* signal = signal_.received()) return signal;
    if (limit_s_ == 0.0) return nullptr;
    const double save_s =
        longest_save_s_ > 0.0 ? 1.5 * longest_save_s_ : std::min(60.0, 0.05 * limit_s_);
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - started_;
    return passed.count() + longest_step_s_ + save_s > limit_s_ ? "train.time_limit_minutes"
                                                                : nullptr;
  }
  // What the next ones may take.
  void took_step(double seconds) { longest_step_s_ = std::max(longest_step_s_, seconds); }
  void took_save(double seconds) { longest_save_s_ = std::max(longest_save_s_, seconds); }

 private:
  const double limit_s_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  const StopSignal signal_;
  double longest_step_s_ = 0.0, longest_save_s_ = 0.0;
};

}  // namespace forja
