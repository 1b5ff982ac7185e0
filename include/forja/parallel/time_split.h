// SPDX-License-Identifier: Apache-2.0
// Where the time of a step goes, on the thread that computes or on its GPU: every moment counts for
// one kind.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "forja/device/event.h"
#include "forja/device/gpu_runtime.h"
#include "forja/device/profiler_range.h"

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
  using Clock = std::chrono::steady_clock;
  // Hears of every stretch of time as it ends; on a GPU, in finish().
  using Listener = std::function<void(TimeKind, Clock::time_point begin, Clock::time_point end)>;

  static constexpr size_t kKinds = size_t(TimeKind::count);

  // From the next reset() on, time is that of work in `stream`, not of the thread that gives it:
  // the time between two moments is what the GPU needed for the work given between them, or waited.
  void use_stream(CUstream_st* stream) {
    stream_ = stream;
    counting_ = !stream;
  }
  // Sets every counter to 0. The stream must be idle.
  void reset();
  // Counts what goes on until now; of a stream, waits for it.
  void finish();
  double seconds(TimeKind kind) const { return seconds_[size_t(kind)]; }
  void set_listener(Listener listener) { listener_ = std::move(listener); }

  // Now, of the thread or of the stream.
  struct Moment {
    Clock::time_point at;  // of the thread
    size_t event = 0;      // of the stream, in events_
  };
  Moment now();
  // Calls `report` with both moments when they are known: at once, or in finish().
  void when_known(const Moment& begin, const Moment& end,
                  std::function<void(Clock::time_point, Clock::time_point)> report);

  // While it lives, time counts for `kind`, and not for what was before.
  class Scope {
   public:
    Scope(TimeSplit& split, TimeKind kind)
        : range_(time_kind_name(kind)), split_(split), before_(split.switch_to(kind)) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { split_.switch_to(before_); }

   private:
    ProfilerRange range_;
    TimeSplit& split_;
    TimeKind before_;
  };

  void wait(const Event& event, TimeKind kind) {
    if (event.is_nothing()) return;
    const Scope scope(*this, kind);
    event.wait();
  }

 private:
  struct Stretch {
    TimeKind kind;
    Moment begin, end;
  };
  struct Report {
    Moment begin, end;
    std::function<void(Clock::time_point, Clock::time_point)> report;
  };

  TimeKind switch_to(TimeKind kind);
  void count(TimeKind kind, Clock::time_point begin, Clock::time_point end);
  Clock::time_point time_of(const Moment& moment) const;

  std::array<double, kKinds> seconds_{};
  Moment since_{Clock::now()};
  TimeKind now_ = TimeKind::other;
  Listener listener_;
  // Of a stream: its moments since the reset, the first of which is also known as the host's time.
  CUstream_st* stream_ = nullptr;
  bool counting_ = true;
  std::vector<std::unique_ptr<GpuEvent>> events_;  // kept for the next step
  size_t num_events_ = 0;
  Clock::time_point first_;
  std::vector<Stretch> stretches_;
  std::vector<Report> reports_;
};

}  // namespace forja
