// SPDX-License-Identifier: Apache-2.0
// What a backend over host memory implements: blocking calls, made by one communication thread per
// rank.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "forja/comm/communicator.h"

namespace forja {

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string backend() const = 0;

  virtual void all_reduce(const Tensor& data, ReduceOp op) = 0;
  virtual void reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op) = 0;
  virtual void all_gather(const Tensor& in, const Tensor& out) = 0;
  virtual void broadcast(const Tensor& data, int root) = 0;
  virtual void all_to_all(const Tensor& in, const Tensor& out) = 0;
  virtual void exchange(const std::vector<PointToPoint>& parts) = 0;
  virtual void barrier() = 0;
  virtual std::unique_ptr<Transport> split(int color, int key) = 0;
};

// A thread that runs calls one after the other; shared by all groups of a rank.
class CommThread;
std::shared_ptr<CommThread> start_comm_thread();

// The Communicator that runs a transport's calls on `thread`.
std::unique_ptr<Communicator> make_queued_communicator(std::unique_ptr<Transport> transport,
                                                       std::shared_ptr<CommThread> thread);

// Reduces n elements of `from` into `into`.
void reduce_into(DType dtype, ReduceOp op, void* into, const void* from, int64_t n);

}  // namespace forja
