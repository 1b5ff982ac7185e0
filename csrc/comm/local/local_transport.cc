// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads of one process. Every collective is: publish a pointer, meet, read the
// others, meet again. A meeting is a counter that is polled, so that other groups go on meanwhile.
// Reductions go in rank order, each element on one rank.
#include <atomic>
#include <cstring>
#include <vector>

#include "csrc/comm/reduce.h"
#include "csrc/comm/transport.h"

namespace forja {
namespace {

// What the ranks of one group share.
struct Meeting {
  explicit Meeting(int n) : size(n), calls(size_t(n)), mail(size_t(n) * size_t(n)) {}

  struct Call {
    CallSignature signature;
    const void* data = nullptr;
  };

  const int size;
  std::atomic<int64_t> arrivals = 0;
  std::vector<Call> calls;                       // element r is written by rank r between meetings
  std::vector<std::atomic<const Tensor*>> mail;  // [from n + to]: a waiting send, or null
};

uint8_t* at(const Tensor& t, int64_t element) {
  return static_cast<uint8_t*>(t.data) + element * dtype_bytes(t.dtype);
}

void copy(void* to, const void* from, int64_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, size_t(bytes));
}

// The messages of an exchange in one direction between two ranks: they go one after the other.
struct Lane {
  PointToPoint::Kind kind;
  int peer;
  std::vector<const Tensor*> messages;
  size_t next = 0;
  bool posted = false;  // messages[next] is in the mail

  bool done() const { return next == messages.size(); }
};

std::vector<Lane> make_lanes(const std::vector<PointToPoint>& parts) {
  std::vector<Lane> lanes;
  for (const PointToPoint& part : parts) {
    auto lane = std::find_if(lanes.begin(), lanes.end(), [&](const Lane& l) {
      return l.kind == part.kind && l.peer == part.peer;
    });
    if (lane == lanes.end()) lane = lanes.insert(lane, Lane{part.kind, part.peer, {}});
    lane->messages.push_back(&part.data);
  }
  return lanes;
}

class LocalTransport : public Transport {
 public:
  LocalTransport(std::shared_ptr<Meeting> meeting, int rank)
      : meeting_(std::move(meeting)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return meeting_->size; }
  std::string backend() const override { return "local"; }

  // Every rank reduces its share in place, then takes the others'.
  Operation all_reduce(Tensor data, ReduceOp op) override {
    co_await publish({data.num_elements(), CommKind::all_reduce, op, 0, data.dtype}, data.data);
    const Range mine = share_of(data.num_elements(), rank_, size());
    reduce_published(data.dtype, op, mine, at(data, mine.begin));
    co_await meet();
    for (int r = 0; r < size(); ++r) {
      const Range share = share_of(data.num_elements(), r, size());
      const int64_t offset = share.begin * dtype_bytes(data.dtype);
      copy(at(data, share.begin), published(r) + offset, share.size * dtype_bytes(data.dtype));
    }
    co_await meet();
  }

  Operation reduce_scatter(Tensor in, Tensor out, ReduceOp op) override {
    co_await publish({in.num_elements(), CommKind::reduce_scatter, op, 0, in.dtype}, in.data);
    const int64_t n = out.num_elements();
    reduce_published(in.dtype, op, {n * rank_, n}, out.data);
    co_await meet();
  }

  Operation all_gather(Tensor in, Tensor out) override {
    co_await publish({in.num_elements(), CommKind::all_gather, {}, 0, in.dtype}, in.data);
    for (int r = 0; r < size(); ++r)
      copy(at(out, r * in.num_elements()), published(r), in.num_bytes());
    co_await meet();
  }

  Operation broadcast(Tensor data, int root) override {
    co_await publish({data.num_elements(), CommKind::broadcast, {}, root, data.dtype}, data.data);
    copy(data.data, published(root), data.num_bytes());
    co_await meet();
  }

  Operation all_to_all(Tensor in, Tensor out) override {
    co_await publish({in.num_elements(), CommKind::all_to_all, {}, 0, in.dtype}, in.data);
    const int64_t part = in.num_elements() / size(), bytes = part * dtype_bytes(in.dtype);
    for (int r = 0; r < size(); ++r) copy(at(out, r * part), published(r) + rank_ * bytes, bytes);
    co_await meet();
  }

  Operation exchange(std::vector<PointToPoint> parts) override {
    std::vector<Lane> lanes = make_lanes(parts);
    std::string error;
    const auto advance_lanes = [&] {
      bool all_done = true;
      for (Lane& lane : lanes) {
        if (!lane.done()) advance(lane, error);
        all_done &= lane.done();
      }
      return all_done;
    };
    co_await until(advance_lanes);
    if (!error.empty()) fail("{}", error);
  }

  Operation barrier() override {
    co_await publish({}, nullptr);
    co_await meet();
  }

  Operation split(int color, int key, std::unique_ptr<Transport>* part) override {
    const std::pair<int, int> mine(color, key);
    co_await publish({0, CommKind::split}, &mine);
    int group_size = 0, group_rank = 0, first = -1;
    for (int r = 0; r < size(); ++r) {
      const auto [other_color, other_key] =
          *static_cast<const std::pair<int, int>*>(meeting_->calls[size_t(r)].data);
      if (other_color != color) continue;
      if (first < 0) first = r;
      ++group_size;
      if (std::pair(other_key, r) < std::pair(key, rank_)) ++group_rank;
    }
    co_await meet();
    // The first rank of each group makes what the group shares.
    std::shared_ptr<Meeting> shared;
    if (first == rank_) shared = std::make_shared<Meeting>(group_size);
    co_await publish({0, CommKind::split}, &shared);
    const auto group =
        *static_cast<const std::shared_ptr<Meeting>*>(meeting_->calls[size_t(first)].data);
    co_await meet();
    *part = std::make_unique<LocalTransport>(group, group_rank);
  }

 private:
  // The k-th meeting of a rank is over when all ranks have arrived k times: nobody can have arrived
  // more often before that.
  Operation meet() {
    const int64_t expected = ++meetings_ * size();
    meeting_->arrivals.fetch_add(1, std::memory_order_acq_rel);
    co_await until([&] { return meeting_->arrivals.load(std::memory_order_acquire) >= expected; });
  }

  // Makes `data` known to the others. A second meeting must come before the next.
  Operation publish(CallSignature signature, const void* data) {
    meeting_->calls[size_t(rank_)] = {signature, data};
    co_await meet();
    std::vector<CallSignature> signatures;
    for (const Meeting::Call& call : meeting_->calls) signatures.push_back(call.signature);
    const std::string error = difference(signatures);
    if (error.empty()) co_return;
    co_await meet();  // all ranks saw the same and do the same
    fail("{}", error);
  }

  const uint8_t* published(int r) const {
    return static_cast<const uint8_t*>(meeting_->calls[size_t(r)].data);
  }

  void reduce_published(DType dtype, ReduceOp op, Range range, void* out) const {
    std::vector<const void*> parts;
    for (int r = 0; r < size(); ++r)
      parts.push_back(published(r) + range.begin * dtype_bytes(dtype));
    reduce_parts(dtype, op, parts, out, range.size);
  }

  // A send leaves a pointer; the receiver copies and takes it away; the send ends then.
  void advance(Lane& lane, std::string& error) {
    const bool send = lane.kind == PointToPoint::Kind::send;
    auto& slot =
        meeting_->mail[size_t(send ? rank_ * size() + lane.peer : lane.peer * size() + rank_)];
    const Tensor* const waiting = slot.load(std::memory_order_acquire);
    const Tensor& message = *lane.messages[lane.next];
    if (send && !lane.posted) {
      slot.store(&message, std::memory_order_release);
      lane.posted = true;
    } else if (send && !waiting) {
      lane.posted = false;
      ++lane.next;
    } else if (!send && waiting) {
      if (waiting->num_bytes() == message.num_bytes()) {
        copy(message.data, waiting->data, message.num_bytes());
      } else {
        error = fmt::format("rank {} sends {} bytes, rank {} expects {}", lane.peer,
                            waiting->num_bytes(), rank_, message.num_bytes());
      }
      slot.store(nullptr, std::memory_order_release);
      ++lane.next;
    }
  }

  std::shared_ptr<Meeting> meeting_;
  int rank_;
  int64_t meetings_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_local_communicators(int size) {
  auto meeting = std::make_shared<Meeting>(size);
  std::vector<std::unique_ptr<Communicator>> out;
  for (int r = 0; r < size; ++r) {
    out.push_back(make_queued_communicator(std::make_unique<LocalTransport>(meeting, r),
                                           std::make_shared<CommThread>()));
  }
  return out;
}

}  // namespace forja
