// SPDX-License-Identifier: Apache-2.0
// What every backend counts and records of its calls.
#include "forja/comm/communicator.h"
#include "tests/comm/backends.h"

namespace forja {
namespace {

using Kind = PointToPoint::Kind;

class Accounts : public testing::BackendTest {};
FORJA_OVER_BACKENDS(Accounts);

Tensor tensor_of(std::vector<float>& values) {
  return make_tensor(values.data(), DType::f32, {int64_t(values.size())});
}

TEST_P(Accounts, CountsCallsAndBytesByPurposeAndKind) {
  run([](Communicator& c) {
    const int64_t n = c.size();
    std::vector<float> x(30), all(30 * size_t(n));
    c.all_reduce(tensor_of(x), ReduceOp::sum, {"gradients", 1}).wait();
    c.all_reduce(tensor_of(x), ReduceOp::sum, {"gradients", 2}).wait();
    c.all_reduce(tensor_of(x), ReduceOp::max, {"loss"}).wait();
    c.all_gather(tensor_of(x), tensor_of(all), {"gradients"}).wait();
    c.barrier({"end"}).wait();
    if (n > 1) {
      const int next = (c.rank() + 1) % int(n), previous = (c.rank() + int(n) - 1) % int(n);
      std::vector<float> got(30);
      c.exchange({{Kind::send, tensor_of(x), next}, {Kind::recv, tensor_of(got), previous}}, {"pp"})
          .wait();
    }
    const std::vector<CommVolume> v = c.volumes();
    if (c.backend() == "self") {
      EXPECT_TRUE(v.empty());
      return;
    }
    ASSERT_EQ(v.size(), n > 1 ? 5u : 4u);
    const auto expect = [&](size_t i, const char* purpose, CommKind kind, int64_t calls,
                            int64_t bytes) {
      EXPECT_EQ(v[i].purpose, purpose);
      EXPECT_EQ(v[i].kind, kind);
      EXPECT_EQ(v[i].calls, calls);
      EXPECT_EQ(v[i].bytes, bytes) << purpose << " " << comm_kind_name(kind);
    };
    expect(0, "gradients", CommKind::all_reduce, 2, 2 * (2 * (n - 1) * 120 / n));
    expect(1, "loss", CommKind::all_reduce, 1, 2 * (n - 1) * 120 / n);
    expect(2, "gradients", CommKind::all_gather, 1, (n - 1) * 120);
    expect(3, "end", CommKind::barrier, 1, 0);
    if (n > 1) expect(4, "pp", CommKind::exchange, 1, 120);
    c.reset_volumes();
    EXPECT_TRUE(c.volumes().empty());
  });
}

TEST_P(Accounts, TracesWhatItDid) {
  run([](Communicator& c) {
    const auto trace = std::make_shared<CommTrace>();
    std::vector<float> x(30);
    const auto before = std::chrono::steady_clock::now();
    c.all_reduce(tensor_of(x), ReduceOp::sum, {"unseen"}).wait();
    c.set_trace(trace);
    c.all_reduce(tensor_of(x), ReduceOp::sum, {"gradients", 3, 2});
    c.barrier({"end"}).wait();
    const auto after = std::chrono::steady_clock::now();
    c.set_trace(nullptr);
    c.barrier({"unseen"}).wait();
    const std::vector<CommSpan> spans = trace->take();
    EXPECT_TRUE(trace->take().empty());
    ASSERT_EQ(spans.size(), c.backend() == "self" ? 0u : 2u);
    if (spans.empty()) return;
    EXPECT_STREQ(spans[0].label.purpose, "gradients");
    EXPECT_EQ(spans[0].label.step, 3);
    EXPECT_EQ(spans[0].label.layer, 2);
    EXPECT_EQ(spans[0].kind, CommKind::all_reduce);
    EXPECT_EQ(spans[0].bytes, comm_volume_bytes(CommKind::all_reduce, 120, c.size()));
    EXPECT_EQ(spans[1].kind, CommKind::barrier);
    EXPECT_LE(before, spans[0].begin);
    EXPECT_LE(spans[0].begin, spans[0].end);
    EXPECT_LE(spans[0].end, spans[1].begin);
    EXPECT_LE(spans[1].end, after);
  });
}

}  // namespace
}  // namespace forja
