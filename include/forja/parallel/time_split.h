// SPDX-License-Identifier: Apache-2.0
// Where the time of a step goes, on the thread that computes: every moment counts for one kind.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

#include "forja/device/event.h"

namespace forja {

enum class TimeKind {
  other,
  data,
  forward,
  backward,
  recompute,
  optimizer,
  // Waiting for communication that computing did not cover, by axis.
  wait_tp,
  wait_pp,  // the bubble, and transfers between stages
  wait_dp,
  count,
};

// As metrics.jsonl and the report call it.
inline const char* time_kind_name(TimeKind kind) {
  constexpr const char* kNames[] = {"other",     "data",    "forward", "backward", "recompute",
                                    "optimizer", "wait_tp", "wait_pp", "wait_dp"};
  return kNames[size_t(kind)];
}

class TimeSplit {
 public:
  static constexpr size_t kKinds = size_t(TimeKind::count);

  // Sets every counter to 0.
  void reset() {
    seconds_.fill(0.0);
    since_ = Clock::now();
  }
  // Counts what goes on until now.
  void finish() { switch_to(now_); }
  double seconds(TimeKind kind) const { return seconds_[size_t(kind)]; }

  // While it lives, time counts for `kind`, and not for what was before.
  class Scope {
   public:
    Scope(TimeSplit& split, TimeKind kind) : split_(split), before_(split.switch_to(kind)) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { split_.switch_to(before_); }

   private:
    TimeSplit& split_;
    TimeKind before_;
  };

  void wait(const Event& event, TimeKind kind) {
    const Scope scope(*this, kind);
    event.wait();
  }

 private:
  using Clock = std::chrono::steady_clock;

  TimeKind switch_to(TimeKind kind) {
    const auto now = Clock::now();
    seconds_[size_t(now_)] += std::chrono::duration<double>(now - since_).count();
    since_ = now;
    const TimeKind before = now_;
    now_ = kind;
    return before;
  }

  std::array<double, kKinds> seconds_{};
  Clock::time_point since_ = Clock::now();
  TimeKind now_ = TimeKind::other;
};

}  // namespace forja
