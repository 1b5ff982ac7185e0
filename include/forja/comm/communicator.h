// SPDX-License-Identifier: Apache-2.0
// Communication among the ranks of a group. Every call is enqueued and returns an Event at once;
// the buffers belong to the call until the event is complete. All ranks of a group make the same
// calls in the same order, and a group's calls run in that order. Calls of different groups of a
// rank progress side by side: none waits for another, as with one NCCL stream per group.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "forja/device/event.h"
#include "forja/tensor/tensor.h"

struct CUstream_st;

namespace forja {

enum class ReduceOp { sum, max, min };

// What a call is for: carried along so that a hang or a trace can be told in words.
struct CommLabel {
  const char* purpose = "";  // a literal: traces keep the pointer
  int64_t step = -1;
  int layer = -1;
};

enum class CommKind {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  all_to_all,
  exchange,
  barrier,
  split,  // neither counted nor traced
};
std::string_view comm_kind_name(CommKind kind);  // "all_reduce"

// What one rank must send by the bandwidth-optimal algorithm, rounded down, in bytes. n = ranks,
// B = buffer_bytes:
//   all_reduce                               2 (n-1)/n B
//   reduce_scatter, all_gather, all_to_all   (n-1)/n B, of the larger buffer
//   broadcast                                B, on every rank (a pipeline along the ranks)
//   exchange                                 B: the bytes of its sends
//   barrier                                  0
int64_t comm_volume_bytes(CommKind kind, int64_t buffer_bytes, int num_ranks);

// The calls of one purpose and kind that a communicator took.
struct CommVolume {
  std::string purpose;
  CommKind kind;
  int64_t calls = 0;
  int64_t bytes = 0;  // the sum of comm_volume_bytes, not of what the backend's algorithm sends
};

// The work of one call: from when it was the first of its group's queue until it ended. The caller
// may have waited for less or for more of it.
struct CommSpan {
  CommLabel label;
  CommKind kind;
  int64_t bytes = 0;  // as CommVolume counts
  std::chrono::steady_clock::time_point begin, end;
};

// Collects the spans of one or more communicators. Any thread may call anything.
class CommTrace {
 public:
  void add(const CommSpan& span);
  // The spans so far, by their end within each communicator; they are forgotten here.
  std::vector<CommSpan> take();

 private:
  std::mutex mutex_;
  std::vector<CommSpan> spans_;
};

struct PointToPoint;

// Hears of the calls of a group, from the thread that makes them and from those that end them.
class CallJournal {
 public:
  virtual ~CallJournal() = default;
  // A call is made; `parts` are an exchange's. Returns the call's number.
  virtual int64_t called(CommKind kind, const CommLabel& label, int64_t bytes,
                         const std::vector<PointToPoint>& parts) = 0;
  // Before the call's event completes, with an error or without.
  virtual void ended(int64_t number) = 0;
};

// One half of an exchange. Sends are rendezvous: they end only when the peer receives. Between two
// ranks of a group, the i-th send meets the i-th receive.
struct PointToPoint {
  enum class Kind { send, recv } kind;
  Tensor data;
  int peer;
};

// Legend: n = size(). Tensors are contiguous; reductions take f32, f64, bf16, i32 and i64.
//
// Results of reductions are bitwise the same on every rank, and in every run with as many ranks:
// `local` and `mpi` combine the ranks' elements in rank order, bf16 in fp32 with one rounding at
// the end, and so agree with each other; `nccl` adds in the order of its rings and trees, and
// rounds bf16 at every hop. No count is too large.
//
// Errors (of the network, of another rank) are thrown by Event::wait. A collective whose kind,
// number of elements, dtype, op or root differs among the ranks ends with an error on all of them
// and moves nothing; a message whose size is not the receive's ends with an error at the receiver.
// Later calls are not affected. `nccl` does not compare calls; what it notices (a peer that is
// gone, a network that is down) ends every call of every group, and is thrown by the next call or
// wait.
//
// Tensors may be a GPU's where use_stream() named the stream that they are used in: a call reads
// what work given to the stream before wrote, and work given after the event's wait() sees the
// result. `mpi` and `local` copy them through host memory, for which the calling thread waits.
// `nccl` moves them in a stream of the group's own, and no thread waits: its events are done at
// once.
//
// Calls of one communicator come from one thread at a time.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string backend() const = 0;

  // data[i] = op over the ranks of data[i].
  virtual Event all_reduce(const Tensor& data, ReduceOp op, CommLabel label) = 0;
  // out [m] = this rank's m of op over the ranks of in [n m]. out may be that part of in; in
  // is not changed elsewhere.
  virtual Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op,
                               CommLabel label) = 0;
  // out [n m] = in [m] of every rank, in rank order. in may be this rank's part of out.
  virtual Event all_gather(const Tensor& in, const Tensor& out, CommLabel label) = 0;
  // data = data of `root`.
  virtual Event broadcast(const Tensor& data, int root, CommLabel label) = 0;
  // Part i of in [n m] goes to rank i; out [n m] gets part `rank()` of every rank. They do not
  // overlap.
  virtual Event all_to_all(const Tensor& in, const Tensor& out, CommLabel label) = 0;
  // Sends and receives that progress together.
  virtual Event exchange(const std::vector<PointToPoint>& parts, CommLabel label) = 0;
  virtual Event barrier(CommLabel label) = 0;

  // A group of the ranks that give the same color, ordered by key (then by rank); collective and
  // blocking. A rank has one split under way at a time.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  virtual void use_stream(CUstream_st* stream) = 0;

  // What was called since the start or the last reset, in the order of first use. The group of one
  // rank counts nothing.
  virtual std::vector<CommVolume> volumes() const = 0;
  virtual void reset_volumes() = 0;
  // Calls from now on leave their span in `trace`, before their event completes; nullptr: no
  // longer. The groups of a split start without.
  virtual void set_trace(std::shared_ptr<CommTrace> trace) = 0;
  // Calls from now on are told to `journal`; nullptr: no longer. The groups of a split start
  // without.
  virtual void set_journal(std::shared_ptr<CallJournal> journal) = 0;
};

// The texts of all ranks of `group`, in rank order; waits.
std::vector<std::string> all_gather_text(Communicator& group, const std::string& mine,
                                         CommLabel label);

// The group of one rank: calls do nothing but copy.
std::unique_ptr<Communicator> make_self_communicator();

// A rank of a group that is only planned: calls check their arguments and do nothing.
std::unique_ptr<Communicator> make_planning_communicator(int rank, int size);

// The ranks of `host` once more, each with a GPU of its own: GPU tensors go by NCCL, host tensors
// by `host`, which is not owned and must live longer. Collective. host_name is for messages. Throws
// bad_input where NCCL is missing, too old or not the same on all ranks.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Device device,
                                                     const std::string& host_name);

// `size` ranks that are threads of this process: element i is for thread i. For tests.
std::vector<std::unique_ptr<Communicator>> make_local_communicators(int size);

}  // namespace forja
