// SPDX-License-Identifier: Apache-2.0
// One conformance suite for every backend: each test body runs on all ranks of a group.
#include "forja/comm/communicator.h"

#include <functional>
#include <numeric>
#include <thread>

#include "tests/testing/testing.h"

namespace forja {
namespace {

using Body = std::function<void(Communicator&)>;

void run_ranks(int size, const Body& body) {
  auto ranks = make_local_communicators(size);
  std::vector<std::thread> threads;
  for (auto& comm : ranks) threads.emplace_back([&body, &comm] { body(*comm); });
  for (std::thread& t : threads) t.join();
}

class Conformance : public ::testing::TestWithParam<int> {
 protected:
  void run(const Body& body) {
    if (GetParam() == 0) {
      const auto self = make_self_communicator();
      body(*self);
    } else {
      run_ranks(GetParam(), body);
    }
  }
};

template <class T>
Tensor tensor_of(std::vector<T>& values) {
  return make_tensor(values.data(), dtype_of<T>, {int64_t(values.size())});
}

TEST_P(Conformance, AllReduce) {
  run([](Communicator& c) {
    std::vector<float> x(1001);
    for (size_t i = 0; i < x.size(); ++i) x[i] = float(i) + 0.25f * float(c.rank());
    c.all_reduce(tensor_of(x), ReduceOp::sum, {"test"}).wait();
    const float n = float(c.size());
    for (size_t i = 0; i < x.size(); ++i)
      ASSERT_FLOAT_EQ(x[i], n * float(i) + 0.25f * n * (n - 1) / 2);
    std::vector<int64_t> y = {c.rank(), -c.rank()};
    c.all_reduce(tensor_of(y), ReduceOp::max, {"test"}).wait();
    EXPECT_EQ(y, (std::vector<int64_t>{c.size() - 1, 0}));
    c.all_reduce(tensor_of(y), ReduceOp::min, {"test"}).wait();
    EXPECT_EQ(y, (std::vector<int64_t>{c.size() - 1, 0}));
  });
}

TEST_P(Conformance, ReduceScatterAndAllGather) {
  run([](Communicator& c) {
    const int64_t m = 7;
    std::vector<double> in(size_t(m * c.size())), part(m), all(in.size());
    std::iota(in.begin(), in.end(), 0.0);
    c.reduce_scatter(tensor_of(in), tensor_of(part), ReduceOp::sum, {"test"}).wait();
    for (int64_t i = 0; i < m; ++i)
      ASSERT_EQ(part[size_t(i)], double(c.size()) * double(m * c.rank() + i));
    c.all_gather(tensor_of(part), tensor_of(all), {"test"}).wait();
    for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], double(c.size()) * double(i));
    // In place: the part is this rank's place of the whole.
    std::vector<BFloat16> whole(size_t(3 * c.size()));
    const Tensor w = tensor_of(whole), mine = w.slice(0, 3 * c.rank(), 3 * c.rank() + 3);
    for (int i = 0; i < 3; ++i) mine.ptr<BFloat16>()[i] = BFloat16(float(c.rank()));
    c.all_gather(mine, w, {"test"}).wait();
    for (size_t i = 0; i < whole.size(); ++i) ASSERT_EQ(float(whole[i]), float(i / 3));
  });
}

TEST_P(Conformance, BroadcastAndAllToAll) {
  run([](Communicator& c) {
    std::vector<int32_t> x(5, c.rank());
    c.broadcast(tensor_of(x), c.size() - 1, {"test"}).wait();
    EXPECT_EQ(x, std::vector<int32_t>(5, c.size() - 1));
    std::vector<int32_t> in, out(size_t(2 * c.size()));
    for (int r = 0; r < c.size(); ++r) in.insert(in.end(), {100 * c.rank() + r, r});
    c.all_to_all(tensor_of(in), tensor_of(out), {"test"}).wait();
    for (int r = 0; r < c.size(); ++r) {
      EXPECT_EQ(out[size_t(2 * r)], 100 * r + c.rank());
      EXPECT_EQ(out[size_t(2 * r + 1)], c.rank());
    }
  });
}

TEST_P(Conformance, CallsRunInOrderAndEventsComplete) {
  run([](Communicator& c) {
    std::vector<int64_t> x = {1};
    std::vector<Event> events;
    for (int i = 0; i < 20; ++i)
      events.push_back(c.all_reduce(tensor_of(x), ReduceOp::max, {"test", i}));
    events.push_back(c.barrier({"test"}));
    for (const Event& e : events) e.wait();
    for (const Event& e : events) EXPECT_TRUE(e.done());
    EXPECT_EQ(x[0], 1);
  });
}

TEST_P(Conformance, ExchangeAroundARing) {
  run([](Communicator& c) {
    if (c.size() == 1) return c.exchange({}, {"test"}).wait();
    std::vector<float> out(33, float(c.rank())), in(33, -1.0f);
    const int next = (c.rank() + 1) % c.size(), previous = (c.rank() + c.size() - 1) % c.size();
    using Kind = PointToPoint::Kind;
    for (int round = 0; round < 3; ++round) {
      c.exchange({{Kind::send, tensor_of(out), next}, {Kind::recv, tensor_of(in), previous}},
                 {"test"})
          .wait();
      EXPECT_EQ(in, std::vector<float>(33, float(previous)));
    }
  });
}

TEST_P(Conformance, SplitOrdersByKey) {
  run([](Communicator& c) {
    // Even and odd ranks, in reverse.
    const auto part = c.split(c.rank() % 2, -c.rank());
    const int evens = (c.size() + 1) / 2;
    ASSERT_EQ(part->size(), c.rank() % 2 == 0 ? evens : c.size() - evens);
    std::vector<int64_t> x = {c.rank()};
    std::vector<int64_t> all(size_t(part->size()));
    part->all_gather(tensor_of(x), tensor_of(all), {"test"}).wait();
    EXPECT_EQ(all[size_t(part->rank())], c.rank());
    EXPECT_TRUE(std::is_sorted(all.rbegin(), all.rend()));
  });
}

TEST_P(Conformance, WrongArgumentsThrowBeforeAnythingIsSent) {
  run([](Communicator& c) {
    std::vector<uint8_t> bytes(4);
    std::vector<float> x(4), y(static_cast<size_t>(4 * c.size() + 1));
    testing::error_of([&] { c.all_reduce(tensor_of(bytes), ReduceOp::sum, {}); });
    testing::error_of([&] { c.all_gather(tensor_of(x), tensor_of(y), {}); });
    testing::error_of([&] { c.broadcast(tensor_of(x), c.size(), {}); });
    testing::error_of([&] {
      c.exchange({{PointToPoint::Kind::send, tensor_of(x), c.size()}}, {});
    });
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Conformance, ::testing::Values(0, 2, 3, 4),
                         [](const auto& instance) {
                           return instance.param == 0 ? std::string("self")
                                                      : "local" + std::to_string(instance.param);
                         });

}  // namespace
}  // namespace forja
