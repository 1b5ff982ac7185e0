// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/staged_communicator.h"

#include <algorithm>
#include <cstdlib>

#include "forja/device/gpu_runtime.h"

namespace forja {
namespace {

// Host memory in place of a tensor of a GPU; or the tensor itself, where it is the host's.
class Staged {
 public:
  explicit Staged(const Tensor& t) : original_(t), host_(t) {
    if (t.device.is_cpu()) return;
    memory_.reset(std::malloc(size_t(t.num_bytes())), std::free);
    host_.data = memory_.get();
    host_.device = {};
  }
  const Tensor& host() const { return host_; }
  bool is_copy() const { return memory_ != nullptr; }
  void download(CUstream_st* stream) const {
    if (memory_) gpu_copy(host_.data, original_.data, host_.num_bytes(), stream);
  }
  void upload(CUstream_st* stream) const {
    if (memory_) gpu_copy(original_.data, host_.data, host_.num_bytes(), stream);
  }

 private:
  Tensor original_, host_;
  std::shared_ptr<void> memory_;
};

class StagedCommunicator : public Communicator {
 public:
  explicit StagedCommunicator(std::unique_ptr<Communicator> inner) : inner_(std::move(inner)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string backend() const override { return inner_->backend(); }

  Event all_reduce(const Tensor& data, ReduceOp op, CommLabel label) override {
    const Staged d(data);
    return run({d}, {d}, [&] { return inner_->all_reduce(d.host(), op, label); });
  }
  Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op, CommLabel label) override {
    const Staged i(in), o(out);
    return run({i}, {o}, [&] { return inner_->reduce_scatter(i.host(), o.host(), op, label); });
  }
  Event all_gather(const Tensor& in, const Tensor& out, CommLabel label) override {
    const Staged i(in), o(out);
    return run({i}, {o}, [&] { return inner_->all_gather(i.host(), o.host(), label); });
  }
  Event broadcast(const Tensor& data, int root, CommLabel label) override {
    const Staged d(data);
    return run({d}, {d}, [&] { return inner_->broadcast(d.host(), root, label); });
  }
  Event all_to_all(const Tensor& in, const Tensor& out, CommLabel label) override {
    const Staged i(in), o(out);
    return run({i}, {o}, [&] { return inner_->all_to_all(i.host(), o.host(), label); });
  }
  Event exchange(const std::vector<PointToPoint>& parts, CommLabel label) override {
    std::vector<Staged> sent, received;
    std::vector<PointToPoint> host_parts;
    for (const PointToPoint& p : parts) {
      auto& list = p.kind == PointToPoint::Kind::send ? sent : received;
      list.emplace_back(p.data);
      host_parts.push_back({p.kind, list.back().host(), p.peer});
    }
    return run(sent, received, [&] { return inner_->exchange(host_parts, label); });
  }
  Event barrier(CommLabel label) override { return inner_->barrier(label); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    return inner_->split(color, key);
  }

  void use_stream(CUstream_st* stream) override { stream_ = stream; }
  std::vector<CommVolume> volumes() const override { return inner_->volumes(); }
  void reset_volumes() override { inner_->reset_volumes(); }
  void set_trace(std::shared_ptr<CommTrace> trace) override { inner_->set_trace(std::move(trace)); }
  void set_journal(std::shared_ptr<CallJournal> journal) override {
    inner_->set_journal(std::move(journal));
  }

 private:
  template <class Call>
  Event run(const std::vector<Staged>& reads, const std::vector<Staged>& writes, const Call& call) {
    const auto is_copy = [](const Staged& s) { return s.is_copy(); };
    if (std::none_of(reads.begin(), reads.end(), is_copy) &&
        std::none_of(writes.begin(), writes.end(), is_copy))
      return call();
    for (const Staged& s : reads) s.download(stream_);
    gpu_synchronize(stream_);
    return call().then([reads, writes, stream = stream_] {
      for (const Staged& s : writes) s.upload(stream);
      gpu_synchronize(stream);
    });
  }

  std::unique_ptr<Communicator> inner_;
  CUstream_st* stream_ = nullptr;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> inner) {
  return std::make_unique<StagedCommunicator>(std::move(inner));
}

}  // namespace forja
