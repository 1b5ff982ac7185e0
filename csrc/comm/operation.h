// SPDX-License-Identifier: Apache-2.0
// A call in progress: a coroutine written as straight code that suspends where it must wait,
//
//   Operation Transport::barrier() {
//     MPI_Ibarrier(comm_, &request);
//     co_await until([&] { return tested(request); });
//   }
//
// and is polled by advance(). One operation may await another, which then runs as a part of it. Not
// thread-safe: one thread advances an operation at a time.
#pragma once

#include <coroutine>
#include <exception>
#include <utility>

namespace forja {

class [[nodiscard]] Operation {
 public:
  struct promise_type;
  using Handle = std::coroutine_handle<promise_type>;

  Operation() = default;
  Operation(Operation&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Operation& operator=(Operation&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Operation() {
    if (handle_) handle_.destroy();
  }

  // Runs on, from the start or from a condition that holds by now, to the next condition that does
  // not. False when nothing could be done. Not after done().
  bool advance();
  bool done() const { return !handle_ || handle_.done(); }
  // What ended it early, or null.
  std::exception_ptr error() const;

  // co_await operation: runs it to its end as a part of the awaiting one; throws what it threw.
  bool await_ready() const { return false; }
  void await_suspend(Handle caller);
  void await_resume() const;

 private:
  explicit Operation(Handle handle) : handle_(handle) {}

  Handle handle_;
};

// Of an outermost operation, shared by the parts of it: where to go on, and when.
struct OperationProgress {
  Operation::Handle innermost;
  bool (*holds)(void* condition) = nullptr;  // null: at once
  void* condition = nullptr;
  std::exception_ptr error;  // thrown by the condition

  bool ready();
};

struct Operation::promise_type {
  OperationProgress own;
  OperationProgress* progress = &own;
  Handle caller;  // null in the outermost
  std::exception_ptr error;

  // Parts do not resume their caller themselves: advance() goes on with `innermost`, so that the
  // stack stays flat.
  struct Return {
    bool await_ready() const noexcept { return false; }
    void await_suspend(Handle self) const noexcept {
      promise_type& p = self.promise();
      if (p.caller) p.progress->innermost = p.caller;
    }
    void await_resume() const noexcept {}
  };

  Operation get_return_object() {
    own.innermost = Handle::from_promise(*this);
    return Operation(own.innermost);
  }
  std::suspend_always initial_suspend() const noexcept { return {}; }
  Return final_suspend() const noexcept { return {}; }
  void return_void() const {}
  void unhandled_exception() { error = std::current_exception(); }
};

// co_await until(condition): goes on when condition() is true; throws what it throws. It is called
// often, and from outside the coroutine.
template <class Condition>
class [[nodiscard]] Until {
 public:
  explicit Until(Condition condition) : condition_(std::move(condition)) {}

  bool await_ready() { return condition_(); }
  void await_suspend(Operation::Handle self) {
    progress_ = self.promise().progress;
    progress_->condition = this;
    progress_->holds = [](void* that) { return bool(static_cast<Until*>(that)->condition_()); };
  }
  void await_resume() {
    if (!progress_ || !progress_->error) return;
    std::rethrow_exception(std::exchange(progress_->error, nullptr));
  }

 private:
  Condition condition_;
  OperationProgress* progress_ = nullptr;
};

template <class Condition>
Until<Condition> until(Condition condition) {
  return Until<Condition>(std::move(condition));
}

// Implementation.

inline bool OperationProgress::ready() {
  if (!holds) return true;
  try {
    if (!holds(condition)) return false;
  } catch (...) {
    error = std::current_exception();
  }
  holds = nullptr;
  return true;
}

inline bool Operation::advance() {
  OperationProgress& progress = handle_.promise().own;
  if (!progress.ready()) return false;
  while (!handle_.done() && !progress.holds) progress.innermost.resume();
  return true;
}

inline std::exception_ptr Operation::error() const {
  return handle_ ? handle_.promise().error : nullptr;
}

inline void Operation::await_suspend(Handle caller) {
  promise_type& p = handle_.promise();
  p.caller = caller;
  p.progress = caller.promise().progress;
  p.progress->innermost = handle_;
}

inline void Operation::await_resume() const {
  if (const std::exception_ptr thrown = error()) std::rethrow_exception(thrown);
}

}  // namespace forja
