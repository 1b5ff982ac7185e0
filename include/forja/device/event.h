// SPDX-License-Identifier: Apache-2.0
// The completion of an asynchronous call.
#pragma once

#include <exception>
#include <functional>
#include <memory>

namespace forja {

// A handle to something that will have happened. Copies refer to the same completion. A default
// Event is complete.
class Event {
 public:
  struct State;

  Event() = default;
  explicit Event(std::shared_ptr<State> state) : state_(std::move(state)) {}

  // Complete from the start: there is nothing to wait for.
  bool is_nothing() const { return state_ == nullptr; }
  // Blocks until complete; rethrows the error with which the call ended.
  void wait() const;
  bool done() const;

  // A pending event, to be ended once by complete(), from any thread.
  static Event pending();
  void complete(std::exception_ptr error = nullptr) const;
  // The event that is complete when this is and `finish` has run: once, in the thread that waits
  // first. It does not run where this ended with an error.
  Event then(std::function<void()> finish) const;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace forja
