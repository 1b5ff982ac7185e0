// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "csrc/comm/checks.h"
#include "forja/device/gpu_runtime.h"

namespace forja {
namespace {

class SelfCommunicator : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string backend() const override { return "self"; }
  Event all_reduce(const Tensor& data, ReduceOp, CommLabel) override {
    check_reducible(data, "all_reduce");
    return {};
  }
  Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp, CommLabel) override {
    check_reducible(in, "reduce_scatter");
    return copy(in, out, "reduce_scatter");
  }
  Event all_gather(const Tensor& in, const Tensor& out, CommLabel) override {
    return copy(in, out, "all_gather");
  }
  Event broadcast(const Tensor& data, int root, CommLabel) override {
    check_broadcast(data, root, 1);
    return {};
  }
  Event all_to_all(const Tensor& in, const Tensor& out, CommLabel) override {
    return copy(in, out, "all_to_all");
  }
  Event exchange(const std::vector<PointToPoint>& parts, CommLabel) override {
    FORJA_CHECK(parts.empty(), "exchange with rank {} of 1", parts[0].peer);
    return {};
  }
  Event barrier(CommLabel) override { return {}; }
  std::unique_ptr<Communicator> split(int, int) override { return make_self_communicator(); }
  void use_stream(CUstream_st* stream) override { stream_ = stream; }
  std::vector<CommVolume> volumes() const override { return {}; }
  void reset_volumes() override {}
  void set_trace(std::shared_ptr<CommTrace>) override {}
  void set_journal(std::shared_ptr<CallJournal>) override {}

 private:
  Event copy(const Tensor& in, const Tensor& out, const char* call) const {
    check_parts(in, out, 1, call);
    if (in.data == out.data || in.num_bytes() == 0) return {};
    if (out.device.is_cpu()) {
      std::memcpy(out.data, in.data, size_t(in.num_bytes()));
    } else {
      gpu_copy(out.data, in.data, in.num_bytes(), stream_);
    }
    return {};
  }

  CUstream_st* stream_ = nullptr;
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace forja
