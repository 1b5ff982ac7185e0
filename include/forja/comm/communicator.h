// SPDX-License-Identifier: Apache-2.0
// Communication among the ranks of a group. Every call is enqueued in order and returns an Event at
// once; the buffers belong to the call until the event is complete. All ranks of a group make the
// same calls in the same order.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "forja/device/event.h"
#include "forja/tensor/tensor.h"

namespace forja {

enum class ReduceOp { sum, max, min };

// What a call is for: carried along so that a hang or a trace can be told in words.
struct CommLabel {
  const char* purpose = "";
  int64_t step = -1;
  int layer = -1;
};

// One half of an exchange. Sends are rendezvous: they end only when the peer receives.
struct PointToPoint {
  enum class Kind { send, recv } kind;
  Tensor data;
  int peer;
};

// Legend: n = size(). Tensors are contiguous; reductions take f32, f64, i32 and i64. Results are
// bitwise the same on every rank. Errors (of the network, of another rank) are thrown by
// Event::wait.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string backend() const = 0;

  // data[i] = op over the ranks of data[i].
  virtual Event all_reduce(const Tensor& data, ReduceOp op, CommLabel label) = 0;
  // out [m] = this rank's m of op over the ranks of in [n m].
  virtual Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op,
                               CommLabel label) = 0;
  // out [n m] = in [m] of every rank, in rank order. in may be this rank's part of out.
  virtual Event all_gather(const Tensor& in, const Tensor& out, CommLabel label) = 0;
  // data = data of `root`.
  virtual Event broadcast(const Tensor& data, int root, CommLabel label) = 0;
  // Part i of in [n m] goes to rank i; out [n m] gets part `rank()` of every rank.
  virtual Event all_to_all(const Tensor& in, const Tensor& out, CommLabel label) = 0;
  // Sends and receives that progress together.
  virtual Event exchange(const std::vector<PointToPoint>& parts, CommLabel label) = 0;
  virtual Event barrier(CommLabel label) = 0;

  // A group of the ranks that give the same color, ordered by key; collective and blocking.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;
};

// The group of one rank: calls do nothing but copy.
std::unique_ptr<Communicator> make_self_communicator();

// A rank of a group that is only planned: calls check their arguments and do nothing.
std::unique_ptr<Communicator> make_planning_communicator(int rank, int size);

// `size` ranks that are threads of this process: element i is for thread i. For tests.
std::vector<std::unique_ptr<Communicator>> make_local_communicators(int size);

}  // namespace forja
