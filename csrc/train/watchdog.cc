// SPDX-License-Identifier: Apache-2.0
#include "forja/train/watchdog.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "forja/base/error.h"
#include "forja/comm/control_plane.h"
#include "forja/comm/hang.h"

namespace forja {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLongestInterval_s = 5.0;  // between two statuses of a rank
constexpr double kLongestTick_s = 0.1;      // to notice that a process has ended
// When a process ends, the launcher ends the others: whoever hears of both at once says nothing.
constexpr double kLauncherTime_s = 0.3;
// The ranks other than 0 notice the same silence: one after the other they may speak.
constexpr double kBetweenSpeakers_s = 0.2;

// The message of a rank that has told why the run ends.
constexpr const char* kEnding = "ending";

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

class Watchdog::Impl {
 public:
  Impl(World& world, FlightRecord& record, double limit_s,
       std::function<void(const std::string&)> on_hang)
      : rank_(world.rank()),
        hosts_(world.hosts()),
        record_(record),
        limit_s_(limit_s),
        interval_s_(std::min(kLongestInterval_s, 0.1 * limit_s)),
        tick_s_(std::min(kLongestTick_s, interval_s_)),
        on_hang_(std::move(on_hang)),
        ranks_(rank_ == 0 ? size_t(world.size()) : 1),
        plane_(world) {
    plane_.start(tick_s_, {[this] { tick(); },
                           [this](int from, const std::string& text) { hear(from, text); },
                           [this](int from) { lose(from); }});
  }

 private:
  // What rank 0 knows of each, and the others of rank 0.
  struct Known {
    RankStatus status;
    Clock::time_point heard;
    Clock::time_point lost;
    bool ever_heard = false;
  };

  void tick() {
    if (told_) return end_now();
    forgive_own_sleep();
    if (rank_ > 0) look_at_leader();
    if (!any_lost_ && seconds_since(last_send_) < interval_s_) return;
    last_send_ = Clock::now();
    if (rank_ == 0) {
      ranks_[0].status = record_.status();
      note_heard(ranks_[0]);
      plane_.send("");
      look();
    } else {
      plane_.send(to_json(record_.status()));
    }
  }

  // A job that was suspended as a whole, and goes on, does not hang.
  void forgive_own_sleep() {
    const bool slept =
        last_tick_ != Clock::time_point{} && seconds_since(last_tick_) > 4.0 * tick_s_ + 0.5;
    last_tick_ = Clock::now();
    if (!slept) return;
    record_.progressed();
    for (Known& k : ranks_) k.heard = last_tick_;
  }

  static void note_heard(Known& known) {
    known.heard = Clock::now();
    known.ever_heard = true;
  }

  void hear(int from, const std::string& text) {
    Known& known = ranks_[rank_ == 0 ? size_t(from) : 0];
    if (text == kEnding) {
      told_ = true;
    } else if (!text.empty()) {
      known.status = rank_status_from_json(text);
    }
    note_heard(known);
  }

  void lose(int from) {
    Known& known = ranks_[rank_ == 0 ? size_t(from) : 0];
    known.status.lost = any_lost_ = true;
    known.lost = Clock::now();
  }

  // On rank 0.
  void look() {
    std::vector<RankStatus> statuses;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      const Known& known = ranks_[r];
      if (known.status.lost && seconds_since(known.lost) < kLauncherTime_s) return;
      statuses.push_back(known.status);
      statuses.back().rank = int(r);
      statuses.back().host = hosts_[r];
      if (known.ever_heard) statuses.back().silent_s = seconds_since(known.heard);
    }
    tell(explain_hang(statuses, limit_s_));
  }

  // On the others.
  void look_at_leader() {
    const Known& leader = ranks_[0];
    if (!leader.ever_heard) return;
    const double turn_s = kBetweenSpeakers_s * std::min(rank_ - 1, 50);
    const bool lost = leader.status.lost && seconds_since(leader.lost) >= kLauncherTime_s + turn_s;
    const double silent_s = seconds_since(leader.heard);
    if (lost) {
      tell(fmt::format("rank 0 on host {}: its process has ended without a word", hosts_[0]));
    } else if (!leader.status.lost && silent_s >= limit_s_ + turn_s &&
               record_.status().idle_s >= limit_s_) {  // else only the connection is broken
      tell(
          fmt::format("rank 0 on host {}: no sign of life for {:.0f} s: its process is stopped, or "
                      "its host or network is gone",
                      hosts_[0], silent_s));
    }
  }

  // The others hear first that this rank will end, and not without a word.
  void tell(const std::string& why) {
    if (why.empty()) return;
    plane_.send(kEnding);
    told_ = true;
    why_ = why;
  }

  void end_now() {
    if (!why_.empty()) on_hang_(std::exchange(why_, ""));
  }

  const int rank_;
  const std::vector<std::string> hosts_;
  FlightRecord& record_;
  const double limit_s_, interval_s_, tick_s_;
  const std::function<void(const std::string&)> on_hang_;
  std::vector<Known> ranks_;
  Clock::time_point last_tick_{}, last_send_{};
  bool any_lost_ = false, told_ = false;
  std::string why_;     // to be told
  ControlPlane plane_;  // last: its thread uses the rest
};

Watchdog::Watchdog(World& world, FlightRecord& record, double limit_s,
                   std::function<void(const std::string&)> on_hang)
    : impl_(std::make_unique<Impl>(world, record, limit_s, std::move(on_hang))) {}
Watchdog::~Watchdog() = default;

}  // namespace forja
