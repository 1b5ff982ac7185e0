// SPDX-License-Identifier: Apache-2.0
// What the NCCL communicators of a rank share: the library, the thread that watches their calls,
// and the first failure, which ends all of them.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "csrc/comm/nccl/nccl_api.h"
#include "forja/comm/communicator.h"
#include "forja/device/gpu_runtime.h"

namespace forja::nccl {

// A moment on the host and the same moment in a stream.
struct Anchor {
  GpuEvent event;
  std::chrono::steady_clock::time_point at;
};

// A call under way in a stream.
struct WatchedCall {
  Communicator* comm;
  CommSpan span;
  std::shared_ptr<GpuEvent> end;
  // Where it is traced:
  std::shared_ptr<GpuEvent> begin;
  std::shared_ptr<Anchor> anchor;
  std::shared_ptr<CommTrace> trace;
  // Where it is recorded:
  std::shared_ptr<CallJournal> journal;
  int64_t number = 0;
};

// Any thread may call anything. NCCL is called by one thread at a time.
class Session {
 public:
  // `rank_name` is for messages: "rank 3 on host b".
  Session(const Api& api, Device device, std::string rank_name);
  ~Session();

  Device device() const { return device_; }

  // Throws the failure that was noticed, if any.
  void check() const;
  // Runs `call`, which is `what`, and waits until NCCL has taken it: until `comm` (none: a call
  // without) is no longer in progress. Throws when that fails.
  void run(const std::string& what, Communicator* comm,
           const std::function<Result(const Api&)>& call);
  // From init: what `comm` points to is a communicator of this session once it is ready.
  Communicator* make(const std::string& what, Communicator* parent,
                     const std::function<Result(const Api&, Communicator**)>& call);
  // Calls under way end first, unless the communicators were aborted.
  void destroy(Communicator* comm);
  // Ends the calls of all communicators, now and later.
  void abort(const std::string& why);

  void watch(WatchedCall call);
  // Until no watched call of `comm` is under way.
  void drain(Communicator* comm);

 private:
  void watch_calls();
  void collect_ended();
  void look_for_errors();
  Result state_of(Communicator* comm);
  void wait_ready(const std::string& what, Communicator* comm, Result result,
                  std::unique_lock<std::mutex>& lock);
  [[noreturn]] void refuse(const std::string& what, Result result, Communicator* comm);
  void abort_locked(const std::string& why);

  const Api api_;
  const Device device_;
  const std::string rank_name_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string failure_;
  std::set<Communicator*> comms_;
  std::deque<WatchedCall> calls_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace forja::nccl
