// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/comm_thread.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <iterator>

namespace forja {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// A rank that computes must not lose its core to polling: when nothing has moved for a while, the
// thread sleeps between its turns, a tenth of that time, so that it notices late by little. Before
// that it polls for longer than the shortest sleep really takes, about 80 microseconds: two ranks
// fall into step that would else find each other asleep in turns. It does not yield: beside a
// thread that computes, sched_yield of newer Linux kernels costs a tick of 4 milliseconds, while
// who wakes from a sleep runs at once.
constexpr microseconds kBusyTime(100), kShortestSleep(20), kLongestSleep(100);

Clock::duration sleep_after(Clock::duration idle) {
  return std::clamp<Clock::duration>(idle / 10, kShortestSleep, kLongestSleep);
}

}  // namespace

CommThread::CommThread() : thread_([this] { run(); }) {}

CommThread::~CommThread() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

Event CommThread::enqueue(const void* queue, Start start, Record record) {
  Event event = Event::pending();
  {
    std::lock_guard lock(mutex_);
    incoming_.emplace_back(queue, Call{std::move(start), event, std::move(record), {}, false});
  }
  changed_.notify_one();
  return event;
}

void CommThread::run() {
  // Linux may else wake it 50 microseconds late, to save energy.
  ::prctl(PR_SET_TIMERSLACK, 2000UL, 0UL, 0UL, 0UL);
  Queues queues;  // none is empty
  Clock::time_point last_move = Clock::now();
  Clock::duration idle{};
  while (take_calls(queues, idle)) {
    bool moved = false;
    for (auto it = queues.begin(); it != queues.end();) {
      moved |= advance(it->second);
      it = it->second.empty() ? queues.erase(it) : std::next(it);
    }
    const Clock::time_point now = Clock::now();
    if (moved) last_move = now;
    idle = now - last_move;
  }
}

// Moves what came in to the queues. Waits first: for a call when there is none, else for a moment
// when nothing has moved for `idle`. False when it is time to stop.
bool CommThread::take_calls(Queues& queues, std::chrono::nanoseconds idle) {
  std::unique_lock lock(mutex_);
  if (queues.empty()) {
    changed_.wait(lock, [this] { return stopping_ || !incoming_.empty(); });
  } else if (idle > kBusyTime) {
    changed_.wait_for(lock, sleep_after(idle), [this] { return !incoming_.empty(); });
  }
  for (auto& [queue, call] : incoming_) queues[queue].push_back(std::move(call));
  incoming_.clear();
  return !queues.empty();
}

// Runs the first call of a queue as far as it goes. True when something was done.
bool CommThread::advance(std::deque<Call>& queue) {
  Call& call = queue.front();
  std::exception_ptr error;
  bool moved = true;
  try {
    if (!call.begun) {
      call.begun = true;
      call.record.span.begin = std::chrono::steady_clock::now();
      call.operation = call.start();
    }
    if (!call.operation.done()) moved = call.operation.advance();
    if (!call.operation.done()) return moved;
    error = call.operation.error();
  } catch (...) {  // of start()
    error = std::current_exception();
  }
  if (call.record.trace) {
    call.record.span.end = std::chrono::steady_clock::now();
    call.record.trace->add(call.record.span);
  }
  if (call.record.journal) call.record.journal->ended(call.record.number);
  const Event event = call.event;
  queue.pop_front();  // what the call held is gone before anyone hears of its end
  event.complete(error);
  return true;
}

}  // namespace forja
