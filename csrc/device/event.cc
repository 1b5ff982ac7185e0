// SPDX-License-Identifier: Apache-2.0
#include "forja/device/event.h"

#include <condition_variable>
#include <mutex>

namespace forja {

struct Event::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr error;
};

Event Event::pending() { return Event(std::make_shared<State>()); }

void Event::wait() const {
  if (!state_) return;
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [this] { return state_->done; });
  if (state_->error) std::rethrow_exception(state_->error);
}

bool Event::done() const {
  if (!state_) return true;
  std::lock_guard lock(state_->mutex);
  return state_->done;
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
