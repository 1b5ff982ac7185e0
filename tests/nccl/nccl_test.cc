// SPDX-License-Identifier: Apache-2.0
// The communicator over NCCL, with emulated GPUs and a NCCL of our own: the conformance suite
// (tests/comm/communicator_test.cc), and what only NCCL has.
#include <thread>

#include "csrc/comm/nccl/nccl_communicator.h"
#include "forja/device/gpu_runtime.h"
#include "tests/comm/backends.h"
#include "tests/testing/fake_nccl.h"
#include "tests/testing/local_world.h"
#include "tests/testing/testing.h"

namespace forja::testing {
namespace {

constexpr Device kGpu{DeviceKind::cuda, 0};

std::unique_ptr<Communicator> make_nccl(Communicator& host) {
  return make_nccl_communicator(host, kGpu, "here", fake_nccl());
}

// Takes host tensors for a GPU's, whose memory is the host's here, and waits for the GPU where the
// caller waits.
class OnGpu : public Communicator {
 public:
  explicit OnGpu(std::unique_ptr<Communicator> inner)
      : inner_(std::move(inner)), stream_(std::make_shared<GpuStream>(kGpu)) {
    inner_->use_stream(stream_->handle());
  }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string backend() const override { return inner_->backend(); }
  Event all_reduce(const Tensor& data, ReduceOp op, CommLabel label) override {
    return waited(inner_->all_reduce(gpu(data), op, label));
  }
  Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op, CommLabel label) override {
    return waited(inner_->reduce_scatter(gpu(in), gpu(out), op, label));
  }
  Event all_gather(const Tensor& in, const Tensor& out, CommLabel label) override {
    return waited(inner_->all_gather(gpu(in), gpu(out), label));
  }
  Event broadcast(const Tensor& data, int root, CommLabel label) override {
    return waited(inner_->broadcast(gpu(data), root, label));
  }
  Event all_to_all(const Tensor& in, const Tensor& out, CommLabel label) override {
    return waited(inner_->all_to_all(gpu(in), gpu(out), label));
  }
  Event exchange(const std::vector<PointToPoint>& parts, CommLabel label) override {
    std::vector<PointToPoint> on_gpu = parts;
    for (PointToPoint& p : on_gpu) p.data = gpu(p.data);
    return waited(inner_->exchange(on_gpu, label));
  }
  Event barrier(CommLabel label) override { return inner_->barrier(label); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    return std::make_unique<OnGpu>(inner_->split(color, key));
  }
  void use_stream(CUstream_st*) override {}
  std::vector<CommVolume> volumes() const override { return inner_->volumes(); }
  void reset_volumes() override { inner_->reset_volumes(); }
  void set_trace(std::shared_ptr<CommTrace> trace) override { inner_->set_trace(trace); }
  void set_journal(std::shared_ptr<CallJournal> journal) override { inner_->set_journal(journal); }

 private:
  static Tensor gpu(Tensor t) {
    t.device = kGpu;
    return t;
  }
  Event waited(const Event& event) const {
    return event.then([stream = stream_] { stream->synchronize(); });
  }

  std::unique_ptr<Communicator> inner_;
  std::shared_ptr<GpuStream> stream_;
};

}  // namespace

World* launched_world() { return nullptr; }

std::vector<Backend> backends() {
  return {{"nccl1", 1, 0}, {"nccl2", 2, 0}, {"nccl3", 3, 0}, {"nccl4", 4, 0}};
}

void run_ranks(const Backend& backend, const std::function<void(Communicator&)>& body) {
  run_world(backend.num_threads, [&](World& world) {
    OnGpu on_gpu(make_nccl(world.communicator()));
    body(on_gpu);
  });
}

namespace {

TEST(Nccl, HostTensorsGoByTheHost) {
  run_world(2, [](World& world) {
    const auto nccl = make_nccl(world.communicator());
    EXPECT_EQ(nccl->backend(), "nccl");
    float x = 1.0f + float(nccl->rank());
    nccl->all_reduce(make_tensor(&x, DType::f32, {1}), ReduceOp::sum, {"test"}).wait();
    EXPECT_EQ(x, 3.0f);
  });
}

// Work that was given to the stream before a call is read by it, work after its wait() sees the
// result, and the host waits for neither.
TEST(Nccl, CallsAreInTheOrderOfTheStream) {
  run_world(2, [](World& world) {
    const auto nccl = make_nccl(world.communicator());
    GpuStream stream(kGpu);
    nccl->use_stream(stream.handle());
    constexpr int64_t n = 4096;
    auto* memory = static_cast<uint8_t*>(gpu_allocate(kGpu, 2 * n, "a test"));
    const Tensor x = make_tensor(memory, DType::u8, {n}, kGpu);
    for (int round = 0; round < 20; ++round) {
      gpu_fill_bytes(memory, uint8_t(10 * round + nccl->rank()), n, stream.handle());
      nccl->broadcast(x, round % 2, {"test"}).wait();
      gpu_copy(memory + n, memory, n, stream.handle());
      stream.synchronize();
      EXPECT_EQ(memory[n], 10 * round + round % 2);
      EXPECT_EQ(memory[2 * n - 1], 10 * round + round % 2);
    }
    gpu_free(memory);
  });
}

TEST(Nccl, AFailureEndsTheCallsOfAllGroupsAndIsTold) {
  run_world(2, [](World& world) {
    const auto nccl = make_nccl(world.communicator());
    const auto group = nccl->split(0, nccl->rank());
    GpuStream stream(kGpu);
    for (Communicator* c : {nccl.get(), group.get()}) c->use_stream(stream.handle());
    float value = 1.0f;
    const Tensor x = make_tensor(&value, DType::f32, {1}, kGpu);
    world.communicator().barrier({"test"}).wait();
    if (world.rank() == 0) {
      // Rank 1 never comes.
      const Event event = group->all_reduce(x, ReduceOp::sum, {"gradients", 12, 3});
      break_fake_nccl(0);
      event.wait();  // of the stream: the host does not wait
      stream.synchronize();
      const std::string error = error_of([&] { nccl->barrier({"test"}).wait(); }, ExitCode::failed);
      EXPECT_EQ(error,
                "NCCL on rank 0 on host here: all_reduce of gradients, step 12, layer 3: remote "
                "process exited or there was a network error: the fake was told to");
      error_of([&] { group->all_reduce(x, ReduceOp::sum, {"more"}); });
      error_of([&] { nccl->split(0, 0); });
    }
    world.communicator().barrier({"test"}).wait();
  });
}

TEST(Nccl, DifferentVersionsAreRefusedOnEveryRank) {
  run_world(2, [](World& world) {
    nccl::Library found = fake_nccl();
    nccl::Api old = *found.api;
    old.get_version = [](int* version) {
      *version = 21805;
      return nccl::Result::success;
    };
    if (world.rank() == 1) found.api = &old;
    const std::string host = world.rank() == 0 ? "a" : "b";
    const std::string error =
        error_of([&] { make_nccl_communicator(world.communicator(), kGpu, host, found); },
                 ExitCode::bad_input);
    EXPECT_NE(error.find("rank 0 on host a has NCCL 2.28.3, rank 1 on host b has NCCL 2.18.5"),
              std::string::npos)
        << error;
  });
}

TEST(Nccl, AMissingLibraryIsNamed) {
  run_world(2, [](World& world) {
    for (const bool everywhere : {true, false}) {
      nccl::Library found = fake_nccl();
      if (everywhere || world.rank() == 1) found = {nullptr, "libnccl.so.2: not there"};
      const std::string error =
          error_of([&] { make_nccl_communicator(world.communicator(), kGpu, "here", found); },
                   ExitCode::bad_input);
      EXPECT_NE(error.find(everywhere ? "NCCL was not found (libnccl.so.2: not there)"
                                      : "rank 1 on host here has no NCCL"),
                std::string::npos)
          << error;
    }
  });
}

TEST(Nccl, ARefusedStartIsTold) {
  run_world(1, [](World& world) {
    nccl::Library found = fake_nccl();
    nccl::Api refusing = *found.api;
    refusing.comm_init_rank_config = [](nccl::Communicator**, int, nccl::UniqueId, int,
                                        nccl::Config*) { return nccl::Result::system_error; };
    found.api = &refusing;
    const std::string error =
        error_of([&] { make_nccl_communicator(world.communicator(), kGpu, "here", found); });
    EXPECT_NE(error.find("NCCL on rank 0 on host here: the start: an error"), std::string::npos)
        << error;
  });
}

}  // namespace
}  // namespace forja::testing
