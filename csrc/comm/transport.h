// SPDX-License-Identifier: Apache-2.0
// What a backend over host memory implements: calls as operations, which the communication thread
// of the rank runs one after the other for each group.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "csrc/comm/comm_thread.h"
#include "csrc/comm/operation.h"
#include "forja/comm/communicator.h"

namespace forja {

// Arguments were checked; they are taken by value because an operation outlives its call. A
// transport outlives its operations. An operation that throws leaves the transport usable.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string backend() const = 0;

  virtual Operation all_reduce(Tensor data, ReduceOp op) = 0;
  virtual Operation reduce_scatter(Tensor in, Tensor out, ReduceOp op) = 0;
  virtual Operation all_gather(Tensor in, Tensor out) = 0;
  virtual Operation broadcast(Tensor data, int root) = 0;
  virtual Operation all_to_all(Tensor in, Tensor out) = 0;
  virtual Operation exchange(std::vector<PointToPoint> parts) = 0;
  virtual Operation barrier() = 0;
  // *part lives until the operation ends.
  virtual Operation split(int color, int key, std::unique_ptr<Transport>* part) = 0;
};

// The Communicator that runs a transport's calls on `thread`.
std::unique_ptr<Communicator> make_queued_communicator(std::unique_ptr<Transport> transport,
                                                       std::shared_ptr<CommThread> thread);

// Elements [begin, begin + size) of something.
struct Range {
  int64_t begin, size;
};

// What rank `rank` of `num_ranks` takes of n elements when they share them evenly.
inline Range share_of(int64_t n, int rank, int num_ranks) {
  const int64_t each = n / num_ranks, rest = n % num_ranks;
  return {each * rank + std::min<int64_t>(rank, rest), each + (rank < rest ? 1 : 0)};
}

// The elements [0, n) in pieces of at most `limit` > 0.
inline std::vector<Range> pieces_of(int64_t n, int64_t limit) {
  std::vector<Range> pieces;
  for (int64_t begin = 0; begin < n; begin += limit)
    pieces.push_back({begin, std::min(limit, n - begin)});
  return pieces;
}

// What the ranks of a collective must agree on.
struct CallSignature {
  int64_t num_elements = 0;
  CommKind kind = CommKind::barrier;
  ReduceOp op = ReduceOp::sum;
  int32_t root = 0;
  DType dtype = DType::u8;

  bool operator==(const CallSignature&) const = default;
};

// In words, how the calls of the ranks differ; "" when they do not.
std::string difference(const std::vector<CallSignature>& calls);

}  // namespace forja
