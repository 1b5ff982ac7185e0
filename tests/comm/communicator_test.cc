// SPDX-License-Identifier: Apache-2.0
// One conformance suite for every backend: each test body runs on all ranks of a group.
#include "forja/comm/communicator.h"

#include <algorithm>
#include <numeric>

#include "tests/comm/backends.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::error_of;
using Kind = PointToPoint::Kind;

class Conformance : public testing::BackendTest {
 protected:
  bool is_nccl() const { return GetParam().name.rfind("nccl", 0) == 0; }
};
FORJA_OVER_BACKENDS(Conformance);

template <class T>
Tensor tensor_of(std::vector<T>& values) {
  return make_tensor(values.data(), dtype_of<T>, {int64_t(values.size())});
}

// Element i of a rank: of both signs, and such that the order of a floating-point sum shows.
template <class T>
T element(int rank, int64_t i) {
  const int64_t hash = ((i + 1) * 2654435761 + rank * 40503 * (i + 3)) % 100003;
  const double value = double(hash - 50000) * (hash % 3 == 0 ? 1e-3 : 1.0);
  if constexpr (std::is_integral_v<T>) {
    return T(hash - 50000);
  } else {
    return T(float(value));
  }
}

template <class T>
std::vector<T> elements(int rank, int64_t begin, int64_t n) {
  std::vector<T> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) out[size_t(i)] = element<T>(rank, begin + i);
  return out;
}

// What the contract promises: in rank order, bf16 in fp32.
template <class T>
std::vector<T> reduced(ReduceOp op, int num_ranks, int64_t begin, int64_t n) {
  using Sum = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;
  std::vector<T> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    Sum sum(element<T>(0, begin + i));
    for (int r = 1; r < num_ranks; ++r) {
      const Sum next(element<T>(r, begin + i));
      sum = op == ReduceOp::sum   ? sum + next
            : op == ReduceOp::max ? std::max(sum, next)
                                  : std::min(sum, next);
    }
    out[size_t(i)] = T(sum);
  }
  return out;
}

template <class T>
void expect_same_bits(const std::vector<T>& got, const std::vector<T>& expected, const char* call) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::memcmp(&got[i], &expected[i], sizeof(T)) == 0) continue;
    ADD_FAILURE() << call << " of " << dtype_name(dtype_of<T>) << "[" << got.size() << "]: element "
                  << i << " is " << double(float(got[i])) << " instead of "
                  << double(float(expected[i]));
    return;
  }
}

template <class Body>
void for_reducible_types(Body body) {
  body(float());
  body(double());
  body(BFloat16());
  body(int32_t());
  body(int64_t());
}

constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::max, ReduceOp::min};
// Nothing, one, fewer than ranks, odd, more than a small message.
constexpr int64_t kSizes[] = {0, 1, 2, 7, 1001, 4099};

TEST_P(Conformance, AllReduce) {
  run([](Communicator& c) {
    for_reducible_types([&](auto example) {
      using T = decltype(example);
      for (const ReduceOp op : kOps) {
        for (const int64_t n : kSizes) {
          auto x = elements<T>(c.rank(), 0, n);
          c.all_reduce(tensor_of(x), op, {"test"}).wait();
          expect_same_bits(x, reduced<T>(op, c.size(), 0, n), "all_reduce");
        }
      }
    });
  });
}

TEST_P(Conformance, ReduceScatter) {
  run([](Communicator& c) {
    for_reducible_types([&](auto example) {
      using T = decltype(example);
      for (const ReduceOp op : kOps) {
        for (const int64_t n : kSizes) {
          auto in = elements<T>(c.rank(), 0, n * c.size());
          std::vector<T> out(static_cast<size_t>(n));
          c.reduce_scatter(tensor_of(in), tensor_of(out), op, {"test"}).wait();
          const auto expected = reduced<T>(op, c.size(), n * c.rank(), n);
          expect_same_bits(out, expected, "reduce_scatter");
          expect_same_bits(in, elements<T>(c.rank(), 0, n * c.size()), "in of reduce_scatter");
          // To this rank's part of the input.
          const Tensor whole = tensor_of(in);
          const Tensor mine = whole.slice(0, n * c.rank(), n * (c.rank() + 1));
          c.reduce_scatter(whole, mine, op, {"test"}).wait();
          std::copy_n(static_cast<const T*>(mine.data), n, out.begin());
          expect_same_bits(out, expected, "reduce_scatter in place");
        }
      }
    });
  });
}

template <class T>
void check_moves(Communicator& c, int64_t n) {
  const int ranks = c.size();
  std::vector<T> all;
  for (int r = 0; r < ranks; ++r)
    for (const T& value : elements<T>(r, 0, n)) all.push_back(value);

  auto in = elements<T>(c.rank(), 0, n);
  std::vector<T> out(all.size());
  c.all_gather(tensor_of(in), tensor_of(out), {"test"}).wait();
  expect_same_bits(out, all, "all_gather");
  out.assign(all.size(), T{});
  std::copy(in.begin(), in.end(), out.begin() + n * c.rank());
  const Tensor whole = tensor_of(out);
  c.all_gather(whole.slice(0, n * c.rank(), n * (c.rank() + 1)), whole, {"test"}).wait();
  expect_same_bits(out, all, "all_gather in place");

  for (int root = 0; root < ranks; ++root) {
    auto x = elements<T>(c.rank(), 0, n);
    c.broadcast(tensor_of(x), root, {"test"}).wait();
    expect_same_bits(x, elements<T>(root, 0, n), "broadcast");
  }

  auto parts = elements<T>(c.rank(), 0, n * ranks);
  out.assign(all.size(), T{});
  c.all_to_all(tensor_of(parts), tensor_of(out), {"test"}).wait();
  std::vector<T> expected;
  for (int r = 0; r < ranks; ++r)
    for (const T& value : elements<T>(r, n * c.rank(), n)) expected.push_back(value);
  expect_same_bits(out, expected, "all_to_all");
}

TEST_P(Conformance, GatherBroadcastAndAllToAllMoveEveryDtype) {
  run([](Communicator& c) {
    for_reducible_types([&](auto example) {
      for (const int64_t n : kSizes) check_moves<decltype(example)>(c, n);
    });
    for (const int64_t n : kSizes) check_moves<uint8_t>(c, n);
    for (const int64_t n : kSizes) check_moves<uint16_t>(c, n);
  });
}

TEST_P(Conformance, GathersTextsOfDifferentLengths) {
  run([](Communicator& c) {
    const auto text = [](int rank) { return std::string(size_t(rank * 1000), char('a' + rank)); };
    const std::vector<std::string> all = all_gather_text(c, text(c.rank()), {"test"});
    ASSERT_EQ(int(all.size()), c.size());
    for (int rank = 0; rank < c.size(); ++rank) EXPECT_EQ(all[size_t(rank)], text(rank));
    for (const std::string& none : all_gather_text(c, "", {"test"})) EXPECT_EQ(none, "");
  });
}

TEST_P(Conformance, ReductionsRepeatBitByBit) {
  run([](Communicator& c) {
    const auto in = elements<float>(c.rank(), 0, 10007);
    std::vector<float> first = in;
    c.all_reduce(tensor_of(first), ReduceOp::sum, {"test"}).wait();
    for (int round = 0; round < 5; ++round) {
      std::vector<float> again = in;
      c.all_reduce(tensor_of(again), ReduceOp::sum, {"test"}).wait();
      expect_same_bits(again, first, "all_reduce");
    }
    std::vector<float> all(first.size() * size_t(c.size()));
    c.all_gather(tensor_of(first), tensor_of(all), {"test"}).wait();
    for (int r = 0; r < c.size(); ++r) {
      const auto begin = all.begin() + r * int64_t(first.size());
      expect_same_bits(std::vector<float>(begin, begin + int64_t(first.size())), first,
                       "another rank's all_reduce");
    }
  });
}

TEST_P(Conformance, CallsRunInOrderAndEventsAreWaitedForInAnyOrder) {
  run([](Communicator& c) {
    // Each call needs the result of the one before.
    std::vector<int64_t> x = {1};
    std::vector<Event> events;
    for (int i = 0; i < 10; ++i)
      events.push_back(c.all_reduce(tensor_of(x), ReduceOp::sum, {"test", i}));
    events.push_back(c.barrier({"test"}));
    for (auto e = events.rbegin(); e != events.rend(); ++e) e->wait();
    for (const Event& e : events) EXPECT_TRUE(e.done());
    for (const Event& e : events) e.wait();
    int64_t expected = 1;
    for (int i = 0; i < 10; ++i) expected *= c.size();
    EXPECT_EQ(x[0], expected);
  });
}

TEST_P(Conformance, ExchangeAroundARing) {
  run([](Communicator& c) {
    if (c.size() == 1) return c.exchange({}, {"test"}).wait();
    const int next = (c.rank() + 1) % c.size(), previous = (c.rank() + c.size() - 1) % c.size();
    for (const int64_t n : kSizes) {
      auto out = elements<float>(c.rank(), 0, n);
      std::vector<float> in(out.size());
      c.exchange({{Kind::recv, tensor_of(in), previous}, {Kind::send, tensor_of(out), next}},
                 {"test"})
          .wait();
      expect_same_bits(in, elements<float>(previous, 0, n), "exchange");
    }
  });
}

TEST_P(Conformance, ExchangeInBothDirectionsKeepsTheOrderOfEachPair) {
  run([](Communicator& c) {
    // Three messages of their own sizes to and from every other rank, in one call.
    std::vector<std::vector<int32_t>> out, in;
    std::vector<PointToPoint> parts;
    for (int i = 0; i < 3; ++i) {
      for (int r = 0; r < c.size(); ++r) {
        out.push_back(elements<int32_t>(c.rank(), 100 * r + i, 5 + 40 * i));
        in.emplace_back(out.back().size());
      }
    }
    for (size_t k = 0; k < out.size(); ++k) {
      const int peer = int(k) % c.size();
      if (peer == c.rank()) continue;
      parts.push_back({Kind::send, tensor_of(out[k]), peer});
      parts.push_back({Kind::recv, tensor_of(in[k]), peer});
    }
    c.exchange(parts, {"test"}).wait();
    for (size_t k = 0; k < in.size(); ++k) {
      const int peer = int(k) % c.size(), i = int(k) / c.size();
      if (peer != c.rank())
        expect_same_bits(in[k], elements<int32_t>(peer, 100 * c.rank() + i, 5 + 40 * i), "message");
    }
  });
}

TEST_P(Conformance, SendsEndOnlyWhenTheyAreReceived) {
  if (is_nccl()) GTEST_SKIP() << "NCCL's calls end on the GPU, of which an event knows nothing";
  run([](Communicator& c) {
    if (c.size() == 1) return;
    const auto other = c.split(0, c.rank());
    std::vector<float> x = {float(c.rank())};
    Event sent;
    if (c.rank() == 0) sent = c.exchange({{Kind::send, tensor_of(x), 1}}, {"test"});
    other->barrier({"test"}).wait();
    EXPECT_EQ(sent.done(), c.rank() != 0);
    other->barrier({"test"}).wait();
    if (c.rank() == 1) c.exchange({{Kind::recv, tensor_of(x), 0}}, {"test"}).wait();
    sent.wait();
    if (c.rank() < 2) {
      EXPECT_EQ(x[0], 0.0f);
    }
  });
}

// With one queue for all groups of a rank, rank 0's send would keep its part of the all-reduce
// back, and rank 1 would never come to its receive.
TEST_P(Conformance, AGroupDoesNotWaitForTheCallsOfAnother) {
  run([](Communicator& c) {
    const auto a = c.split(0, c.rank()), b = c.split(0, c.rank());
    if (c.size() == 1) return;
    std::vector<float> message(5000, float(c.rank())), sum(3000, 1.0f);
    for (int round = 0; round < 3; ++round) {
      if (c.rank() == 0) {
        const Event sent = a->exchange({{Kind::send, tensor_of(message), 1}}, {"test"});
        const Event reduced = b->all_reduce(tensor_of(sum), ReduceOp::max, {"test"});
        sent.wait();
        reduced.wait();
      } else {
        b->all_reduce(tensor_of(sum), ReduceOp::max, {"test"}).wait();
        if (c.rank() == 1) a->exchange({{Kind::recv, tensor_of(message), 0}}, {"test"}).wait();
      }
    }
    if (c.rank() == 1) {
      EXPECT_EQ(message, std::vector<float>(5000, 0.0f));
    }
  });
}

// Every rank starts with another group, and waits for the calls in an order of its own.
TEST_P(Conformance, ManyGroupsProgressSideBySide) {
  run([](Communicator& c) {
    constexpr int kGroups = 4, kCalls = 6;
    std::vector<std::unique_ptr<Communicator>> groups;
    for (int g = 0; g < kGroups; ++g) groups.push_back(c.split(0, g % 2 ? -c.rank() : c.rank()));
    std::vector<std::vector<int64_t>> data(kGroups, std::vector<int64_t>(700, 1));
    std::vector<Event> events;
    for (int g = 0; g < kGroups; ++g) {
      const size_t group = size_t((g + c.rank()) % kGroups);
      for (int i = 0; i < kCalls; ++i)
        events.push_back(
            groups[group]->all_reduce(tensor_of(data[group]), ReduceOp::sum, {"test", i}));
    }
    std::rotate(events.begin(), events.begin() + 5 * c.rank(), events.end());
    for (const Event& e : events) e.wait();
    int64_t expected = 1;
    for (int i = 0; i < kCalls; ++i) expected *= c.size();
    for (const auto& values : data) EXPECT_EQ(values, std::vector<int64_t>(700, expected));
  });
}

// A split blocks its caller, not the calls that others of its rank's groups still wait for.
TEST_P(Conformance, ASplitLetsOtherGroupsFinish) {
  run([](Communicator& c) {
    const auto other = c.split(0, c.rank());
    std::vector<float> x(6000, 1.0f);
    const Event reduced = other->all_reduce(tensor_of(x), ReduceOp::sum, {"test"});
    if (c.rank() % 2 == 1) reduced.wait();
    const auto part = c.split(c.rank() % 2, 0);
    reduced.wait();
    EXPECT_EQ(x, std::vector<float>(6000, float(c.size())));
    part->barrier({"test"}).wait();
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
    // A split of a split; equal keys keep the order.
    const auto again = part->split(7, 1);
    EXPECT_EQ(again->rank(), part->rank());
    EXPECT_EQ(again->size(), part->size());
    again->all_reduce(tensor_of(x), ReduceOp::max, {"test"}).wait();
    EXPECT_EQ(x[0], all[0]);
  });
}

TEST_P(Conformance, CommunicatorsGoWithCallsUnderWay) {
  run([](Communicator& c) {
    std::vector<float> x(5000, 1.0f);
    Event event;
    {
      const auto part = c.split(0, c.rank());
      for (int i = 0; i < 3; ++i) event = part->all_reduce(tensor_of(x), ReduceOp::max, {"test"});
    }
    EXPECT_TRUE(event.done());
  });
}

TEST_P(Conformance, WrongArgumentsThrowBeforeAnythingIsSent) {
  run([](Communicator& c) {
    std::vector<uint8_t> bytes(4);
    std::vector<float> x(4), y(static_cast<size_t>(4 * c.size() + 1));
    error_of([&] { c.all_reduce(tensor_of(bytes), ReduceOp::sum, {}); });
    error_of([&] { c.reduce_scatter(tensor_of(y), tensor_of(x), ReduceOp::sum, {}); });
    error_of([&] { c.all_gather(tensor_of(x), tensor_of(y), {}); });
    error_of([&] { c.broadcast(tensor_of(x), c.size(), {}); });
    error_of([&] { c.exchange({{Kind::send, tensor_of(x), c.size()}}, {}); });
    EXPECT_TRUE(c.volumes().empty());
  });
}

TEST_P(Conformance, DifferentCallsEndWithAnErrorOnEveryRank) {
  if (is_nccl()) GTEST_SKIP() << "NCCL trusts its callers to make the same calls";
  run([](Communicator& c) {
    if (c.size() == 1) return;
    const bool odd_one = c.rank() == 1;
    std::vector<float> x(odd_one ? 5 : 4), all(x.size() * size_t(c.size()));
    const auto wrong = [&](const std::function<Event()>& call) {
      const Event event = call();
      EXPECT_NE(error_of([&] { event.wait(); }).find("different calls"), std::string::npos);
    };
    wrong([&] { return c.all_reduce(tensor_of(x), ReduceOp::sum, {"test"}); });
    wrong([&] { return c.all_gather(tensor_of(x), tensor_of(all), {"test"}); });
    wrong([&] { return c.reduce_scatter(tensor_of(all), tensor_of(x), ReduceOp::sum, {"test"}); });
    wrong([&] { return c.all_to_all(tensor_of(all), tensor_of(all), {"test"}); });
    wrong([&] { return c.broadcast(tensor_of(x), 0, {"test"}); });
    std::vector<float> y(4, 1.0f);
    wrong([&] { return c.broadcast(tensor_of(y), odd_one, {"test"}); });
    wrong([&] {
      return c.all_reduce(tensor_of(y), odd_one ? ReduceOp::sum : ReduceOp::max, {"test"});
    });
    wrong([&] {
      return odd_one ? c.barrier({"test"}) : c.all_reduce(tensor_of(y), ReduceOp::sum, {"test"});
    });
    c.all_reduce(tensor_of(y), ReduceOp::sum, {"test"}).wait();
    EXPECT_EQ(y, std::vector<float>(4, float(c.size())));
  });
}

TEST_P(Conformance, AMessageOfAnotherSizeIsTheReceiversError) {
  if (is_nccl()) GTEST_SKIP() << "NCCL trusts its callers to make the same calls";
  run([](Communicator& c) {
    if (c.size() == 1) return;
    for (const size_t received : {4, 12}) {
      std::vector<float> sent(8, 1.0f), got(received), back(3, 2.0f);
      if (c.rank() == 0) {
        c.exchange({{Kind::send, tensor_of(sent), 1}}, {"test"}).wait();
        c.exchange({{Kind::recv, tensor_of(back), 1}}, {"test"}).wait();
      } else if (c.rank() == 1) {
        const Event event = c.exchange({{Kind::recv, tensor_of(got), 0}}, {"test"});
        EXPECT_NE(error_of([&] { event.wait(); }).find("rank 0 sends"), std::string::npos);
        c.exchange({{Kind::send, tensor_of(back), 0}}, {"test"}).wait();
      }
    }
    c.barrier({"test"}).wait();
  });
}

// Needs 5 GB a rank: --gtest_also_run_disabled_tests.
TEST_P(Conformance, DISABLED_MoreThan2GiB) {
  run([](Communicator& c) {
    if (c.size() == 1) return;
    const int64_t n = (int64_t(1) << 31) + 12345;
    std::vector<uint8_t> x(size_t(n), uint8_t(c.rank() + 1));
    x.back() = uint8_t(c.rank() + 100);
    const Kind kind = c.rank() == 0 ? Kind::send : Kind::recv;
    if (c.rank() < 2) c.exchange({{kind, tensor_of(x), 1 - c.rank()}}, {"test"}).wait();
    EXPECT_TRUE(c.rank() > 1 || (x[0] == 1 && x[size_t(n / 2)] == 1 && x.back() == 100));
    c.broadcast(tensor_of(x), 0, {"test"}).wait();
    const Tensor part = make_tensor(x.data(), DType::bf16, {n / 2});
    c.all_reduce(part, ReduceOp::max, {"test"}).wait();
    EXPECT_TRUE(x[0] == 1 && x[size_t(n / 2)] == 1 && x.back() == 100);
  });
}

}  // namespace
}  // namespace forja
