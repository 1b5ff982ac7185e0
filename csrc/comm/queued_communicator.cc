// SPDX-License-Identifier: Apache-2.0
#include <mutex>

#include "csrc/comm/checks.h"
#include "csrc/comm/staged_communicator.h"
#include "csrc/comm/transport.h"
#include "csrc/comm/volume.h"

namespace forja {
namespace {

Operation destroy(std::unique_ptr<Transport>* transport) {
  transport->reset();
  co_return;
}

class QueuedCommunicator : public Communicator {
 public:
  QueuedCommunicator(std::unique_ptr<Transport> transport, std::shared_ptr<CommThread> thread)
      : transport_(std::move(transport)), thread_(std::move(thread)) {}
  // After the calls under way; on the thread, which alone talks to the network.
  ~QueuedCommunicator() override {
    try {
      thread_->enqueue(this, [this] { return destroy(&transport_); }).wait();
    } catch (...) {
    }
  }

  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  std::string backend() const override { return transport_->backend(); }

  Event all_reduce(const Tensor& data, ReduceOp op, CommLabel label) override {
    check_reducible(data, "all_reduce");
    return enqueue(CommKind::all_reduce, data.num_bytes(), label,
                   [this, data, op] { return transport_->all_reduce(data, op); });
  }
  Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op, CommLabel label) override {
    check_reducible(in, "reduce_scatter");
    check_parts(out, in, size(), "reduce_scatter");
    return enqueue(CommKind::reduce_scatter, in.num_bytes(), label,
                   [this, in, out, op] { return transport_->reduce_scatter(in, out, op); });
  }
  Event all_gather(const Tensor& in, const Tensor& out, CommLabel label) override {
    check_parts(in, out, size(), "all_gather");
    return enqueue(CommKind::all_gather, out.num_bytes(), label,
                   [this, in, out] { return transport_->all_gather(in, out); });
  }
  Event broadcast(const Tensor& data, int root, CommLabel label) override {
    check_broadcast(data, root, size());
    return enqueue(CommKind::broadcast, data.num_bytes(), label,
                   [this, data, root] { return transport_->broadcast(data, root); });
  }
  Event all_to_all(const Tensor& in, const Tensor& out, CommLabel label) override {
    check_parts(in, out, 1, "all_to_all");
    FORJA_CHECK(in.num_elements() % size() == 0, "all_to_all of {} among {} ranks", in.to_string(),
                size());
    return enqueue(CommKind::all_to_all, in.num_bytes(), label,
                   [this, in, out] { return transport_->all_to_all(in, out); });
  }
  Event exchange(const std::vector<PointToPoint>& parts, CommLabel label) override {
    int64_t sent_bytes = 0;
    for (const PointToPoint& p : parts) {
      FORJA_CHECK(p.data.is_contiguous() && p.peer >= 0 && p.peer < size() && p.peer != rank(),
                  "exchange of {} with rank {} of {}", p.data.to_string(), p.peer, size());
      if (p.kind == PointToPoint::Kind::send) sent_bytes += p.data.num_bytes();
    }
    return enqueue(
        CommKind::exchange, sent_bytes, label,
        [this, parts] { return transport_->exchange(parts); }, parts);
  }
  Event barrier(CommLabel label) override {
    return enqueue(CommKind::barrier, 0, label, [this] { return transport_->barrier(); });
  }
  std::unique_ptr<Communicator> split(int color, int key) override {
    std::unique_ptr<Transport> part;
    thread_->enqueue(this, [&] { return transport_->split(color, key, &part); }).wait();
    if (part->size() == 1) return make_self_communicator();
    return make_queued_communicator(std::move(part), thread_);
  }

  void use_stream(CUstream_st*) override {}

  std::vector<CommVolume> volumes() const override { return volumes_.volumes(); }
  void reset_volumes() override { volumes_.reset(); }
  void set_trace(std::shared_ptr<CommTrace> trace) override {
    std::lock_guard lock(listeners_mutex_);
    trace_ = std::move(trace);
  }
  void set_journal(std::shared_ptr<CallJournal> journal) override {
    std::lock_guard lock(listeners_mutex_);
    journal_ = std::move(journal);
  }

 private:
  Event enqueue(CommKind kind, int64_t buffer_bytes, const CommLabel& label,
                CommThread::Start start, const std::vector<PointToPoint>& parts = {}) {
    const int64_t bytes = comm_volume_bytes(kind, buffer_bytes, size());
    volumes_.add(label, kind, bytes);
    std::lock_guard lock(listeners_mutex_);
    const int64_t number = journal_ ? journal_->called(kind, label, bytes, parts) : 0;
    return thread_->enqueue(this, std::move(start),
                            {trace_, {label, kind, bytes, {}, {}}, journal_, number});
  }

  std::unique_ptr<Transport> transport_;
  std::shared_ptr<CommThread> thread_;
  VolumeCounter volumes_;
  std::mutex listeners_mutex_;
  std::shared_ptr<CommTrace> trace_;
  std::shared_ptr<CallJournal> journal_;
};

}  // namespace

std::unique_ptr<Communicator> make_queued_communicator(std::unique_ptr<Transport> transport,
                                                       std::shared_ptr<CommThread> thread) {
  return make_staged_communicator(
      std::make_unique<QueuedCommunicator>(std::move(transport), std::move(thread)));
}

}  // namespace forja
