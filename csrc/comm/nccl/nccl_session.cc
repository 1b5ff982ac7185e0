// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/nccl/nccl_session.h"

#include <algorithm>
#include <chrono>

#include "forja/base/error.h"

namespace forja::nccl {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// A trace wants to know of an end soon, and nobody else does.
constexpr milliseconds kBetweenLooks(1), kBetweenErrorLooks(100);
constexpr microseconds kBetweenPolls(20);
constexpr std::chrono::seconds kLongestEnd(10);

std::string describe(const CommSpan& span) {
  std::string out = fmt::format("{} of {}", comm_kind_name(span.kind), span.label.purpose);
  if (span.label.step >= 0) out += fmt::format(", step {}", span.label.step);
  if (span.label.layer >= 0) out += fmt::format(", layer {}", span.label.layer);
  return out;
}

}  // namespace

Session::Session(const Api& api, Device device, std::string rank_name)
    : api_(api),
      device_(device),
      rank_name_(std::move(rank_name)),
      thread_([this] { watch_calls(); }) {}

Session::~Session() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Session::check() const {
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) fail("{}", failure_);
}

// ---- Calls of the library

void Session::refuse(const std::string& what, Result result, Communicator* comm) {
  const char* details = api_.get_last_error(comm);
  fail("NCCL on {}: {}: {}{}{}. NCCL_DEBUG=INFO makes it say more", rank_name_, what,
       api_.get_error_string(result), details && *details ? ": " : "", details ? details : "");
}

Result Session::state_of(Communicator* comm) {
  Result state = Result::success;
  const Result asked = api_.comm_get_async_error(comm, &state);
  return asked == Result::success ? state : asked;
}

void Session::wait_ready(const std::string& what, Communicator* comm, Result result,
                         std::unique_lock<std::mutex>& lock) {
  while (result == Result::in_progress && comm) {
    result = state_of(comm);
    if (result != Result::in_progress) break;
    lock.unlock();
    std::this_thread::sleep_for(kBetweenPolls);
    lock.lock();
    if (!failure_.empty()) fail("{}", failure_);
  }
  if (result != Result::success) refuse(what, result, comm);
}

void Session::run(const std::string& what, Communicator* comm,
                  const std::function<Result(const Api&)>& call) {
  std::unique_lock lock(mutex_);
  if (!failure_.empty()) fail("{}", failure_);
  wait_ready(what, comm, call(api_), lock);
}

Communicator* Session::make(const std::string& what, Communicator* parent,
                            const std::function<Result(const Api&, Communicator**)>& call) {
  std::unique_lock lock(mutex_);
  Communicator* made = nullptr;
  const Result result = call(api_, &made);
  // A split is in progress in its parent until then; and what it made may be so for longer.
  wait_ready(what, parent ? parent : made, result, lock);
  if (!made) return nullptr;
  comms_.insert(made);
  wait_ready(what, made, Result::in_progress, lock);
  return made;
}

void Session::destroy(Communicator* comm) {
  drain(comm);
  std::unique_lock lock(mutex_);
  if (comms_.erase(comm) == 0) return;  // aborted
  const auto patience = std::chrono::steady_clock::now() + kLongestEnd;
  Result result = api_.comm_finalize(comm);
  while (result == Result::in_progress) {
    if (std::chrono::steady_clock::now() > patience) {  // for a rank that is gone
      api_.comm_abort(comm);
      return;
    }
    lock.unlock();
    std::this_thread::sleep_for(kBetweenPolls);
    lock.lock();
    result = state_of(comm);
  }
  api_.comm_destroy(comm);
}

void Session::abort(const std::string& why) {
  const std::lock_guard lock(mutex_);
  abort_locked(why);
}

void Session::abort_locked(const std::string& why) {
  if (failure_.empty()) failure_ = why;
  for (Communicator* comm : comms_) api_.comm_abort(comm);
  comms_.clear();
  calls_.clear();
  changed_.notify_all();
}

// ---- Watching

void Session::watch(WatchedCall call) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) calls_.push_back(std::move(call));
  }
  changed_.notify_all();
}

void Session::drain(Communicator* comm) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return std::none_of(calls_.begin(), calls_.end(),
                        [comm](const WatchedCall& c) { return c.comm == comm; });
  });
}

void Session::watch_calls() {
  use_gpu(device_);  // else this thread would start GPU 0 for itself
  auto last_look = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, calls_.empty() ? kBetweenErrorLooks : kBetweenLooks,
                      [this] { return stopping_; });
    collect_ended();
    const auto now = std::chrono::steady_clock::now();
    if (now - last_look < kBetweenErrorLooks) continue;
    last_look = now;
    look_for_errors();
  }
}

// Of calls that have ended, the spans. The calls of a communicator end in order.
void Session::collect_ended() {
  std::set<Communicator*> busy;
  const auto ended = [&](const WatchedCall& c) {
    if (busy.count(c.comm) > 0) return false;
    if (!c.end->done()) {
      busy.insert(c.comm);
      return false;
    }
    if (c.journal) c.journal->ended(c.number);
    if (!c.trace) return true;
    CommSpan span = c.span;
    const auto moment = [&](const GpuEvent& event) {
      return c.anchor->at +
             std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                 std::chrono::duration<double>(event.seconds_since(c.anchor->event)));
    };
    span.begin = moment(*c.begin);
    span.end = moment(*c.end);
    c.trace->add(span);
    return true;
  };
  const auto first = std::remove_if(calls_.begin(), calls_.end(), ended);
  if (first == calls_.end()) return;
  calls_.erase(first, calls_.end());
  changed_.notify_all();
}

// An error that NCCL notices later: a peer that is gone, a network that is down. The kernels of all
// communicators would wait for ever.
void Session::look_for_errors() {
  std::set<Communicator*> failed;
  Result error = Result::success;
  for (Communicator* comm : comms_) {
    const Result state = state_of(comm);
    if (state == Result::success || state == Result::in_progress) continue;
    failed.insert(comm);
    error = state;
  }
  if (failed.empty()) return;
  const auto call = std::find_if(calls_.begin(), calls_.end(), [&failed](const WatchedCall& c) {
    return failed.count(c.comm) > 0;
  });
  const char* details = api_.get_last_error(*failed.begin());
  abort_locked(fmt::format("NCCL on {}: {}: {}{}{}", rank_name_,
                           call == calls_.end() ? "between calls" : describe(call->span),
                           api_.get_error_string(error), details && *details ? ": " : "",
                           details ? details : ""));
}

}  // namespace forja::nccl
