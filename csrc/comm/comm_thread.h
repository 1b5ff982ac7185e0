// SPDX-License-Identifier: Apache-2.0
// The communication thread of a rank: it alone runs the operations of all groups. Every group has a
// queue; the operations at the heads of the queues progress in turns.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "csrc/comm/operation.h"
#include "forja/comm/communicator.h"

namespace forja {

class CommThread {
 public:
  using Start = std::function<Operation()>;
  // Who hears of a call, where not null. The times of the span are still to be set.
  struct Record {
    std::shared_ptr<CommTrace> trace;
    CommSpan span;
    std::shared_ptr<CallJournal> journal;
    int64_t number;  // in the journal
  };

  CommThread();
  // Finishes what was enqueued.
  ~CommThread();

  // `start` is called, on the thread, when the earlier calls of `queue` (any address) have ended,
  // and lives as long as the operation it gives.
  Event enqueue(const void* queue, Start start, Record record = {});

 private:
  struct Call {
    Start start;
    Event event;
    Record record;
    Operation operation;
    bool begun = false;
  };
  using Queues = std::map<const void*, std::deque<Call>>;

  void run();
  bool take_calls(Queues& queues, std::chrono::nanoseconds idle);
  static bool advance(std::deque<Call>& queue);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<const void*, Call>> incoming_;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when the rest exists
};

}  // namespace forja
