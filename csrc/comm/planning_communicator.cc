// SPDX-License-Identifier: Apache-2.0
#include "forja/base/error.h"
#include "forja/comm/communicator.h"

namespace forja {
namespace {

class PlanningCommunicator : public Communicator {
 public:
  PlanningCommunicator(int rank, int size) : rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string backend() const override { return "planning"; }
  Event all_reduce(const Tensor&, ReduceOp, CommLabel) override { return {}; }
  Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp, CommLabel) override {
    return check(out, in, "reduce_scatter");
  }
  Event all_gather(const Tensor& in, const Tensor& out, CommLabel) override {
    return check(in, out, "all_gather");
  }
  Event broadcast(const Tensor&, int, CommLabel) override { return {}; }
  Event all_to_all(const Tensor&, const Tensor&, CommLabel) override { return {}; }
  Event exchange(const std::vector<PointToPoint>&, CommLabel) override { return {}; }
  Event barrier(CommLabel) override { return {}; }
  std::unique_ptr<Communicator> split(int, int) override {
    fail("a planned group of ranks cannot be split");
  }
  void use_stream(CUstream_st*) override {}
  std::vector<CommVolume> volumes() const override { return {}; }
  void reset_volumes() override {}
  void set_trace(std::shared_ptr<CommTrace>) override {}
  void set_journal(std::shared_ptr<CallJournal>) override {}

 private:
  Event check(const Tensor& small, const Tensor& large, const char* call) const {
    FORJA_CHECK(large.num_elements() == small.num_elements() * size_,
                "{}: {} and {} among {} ranks", call, small.to_string(), large.to_string(), size_);
    return {};
  }

  int rank_, size_;
};

}  // namespace

std::unique_ptr<Communicator> make_planning_communicator(int rank, int size) {
  return std::make_unique<PlanningCommunicator>(rank, size);
}

}  // namespace forja
