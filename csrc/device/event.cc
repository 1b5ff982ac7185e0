// SPDX-License-Identifier: Apache-2.0
#include "forja/device/event.h"

#include <condition_variable>
#include <mutex>
#include <utility>

namespace forja {

struct Event::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr error;
  // Of an event made by then().
  Event before;
  std::function<void()> finish;
};

Event Event::pending() { return Event(std::make_shared<State>()); }

void Event::wait() const {
  if (!state_) return;
  state_->before.wait();
  std::unique_lock lock(state_->mutex);
  if (state_->finish) {
    std::exchange(state_->finish, nullptr)();
    state_->done = true;
  }
  state_->changed.wait(lock, [this] { return state_->done; });
  if (state_->error) std::rethrow_exception(state_->error);
}

bool Event::done() const {
  if (!state_) return true;
  if (!state_->before.done()) return false;
  std::lock_guard lock(state_->mutex);
  return state_->done || state_->finish;
}

Event Event::then(std::function<void()> finish) const {
  Event after = pending();
  after.state_->before = *this;
  after.state_->finish = std::move(finish);
  return after;
}

void Event::complete(std::exception_ptr error) const {
  {
    std::lock_guard lock(state_->mutex);
    state_->done = true;
    state_->error = error;
  }
  state_->changed.notify_all();
}

}  // namespace forja
