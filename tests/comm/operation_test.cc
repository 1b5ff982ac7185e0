// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/operation.h"

#include <atomic>
#include <vector>

#include "csrc/comm/comm_thread.h"
#include "csrc/comm/reduce.h"
#include "csrc/comm/transport.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

Operation wait_for(const bool& flag) {
  co_await until([&] { return flag; });
}

Operation throwing() {
  fail("thrown");
  co_return;
}

std::string message_of(const std::exception_ptr& error) {
  return error ? testing::error_of([&] { std::rethrow_exception(error); }) : "";
}

TEST(Operation, StartsLateAndGoesOnWhenItsConditionHolds) {
  bool first = false, second = false;
  int steps = 0;
  const auto body = [&]() -> Operation {
    ++steps;
    co_await until([&] { return first; });
    ++steps;
    co_await until([&] { return second; });
    ++steps;
  };
  Operation operation = body();
  EXPECT_EQ(steps, 0);
  EXPECT_TRUE(operation.advance());
  EXPECT_EQ(steps, 1);
  EXPECT_FALSE(operation.advance());
  first = true;
  EXPECT_TRUE(operation.advance());
  EXPECT_EQ(steps, 2);
  EXPECT_FALSE(operation.done());
  second = true;
  EXPECT_TRUE(operation.advance());
  EXPECT_TRUE(operation.done());
  EXPECT_EQ(steps, 3);
  EXPECT_EQ(operation.error(), nullptr);
}

TEST(Operation, PartsRunWithinTheirCaller) {
  bool flags[2] = {};
  const auto part = [&]() -> Operation {
    co_await wait_for(flags[0]);
    co_await wait_for(flags[1]);
  };
  const auto whole = [&]() -> Operation {
    co_await part();
    for (int i = 0; i < 100000; ++i) co_await wait_for(flags[0]);  // the stack stays flat
  };
  Operation operation = whole();
  EXPECT_TRUE(operation.advance());
  EXPECT_FALSE(operation.advance());
  flags[0] = true;
  EXPECT_TRUE(operation.advance());
  EXPECT_FALSE(operation.advance());
  flags[1] = true;
  EXPECT_TRUE(operation.advance());
  EXPECT_TRUE(operation.done());
}

TEST(Operation, ErrorsOfPartsAndOfConditionsPassThroughTheCaller) {
  int caught = 0;
  const auto body = [&]() -> Operation {
    try {
      co_await throwing();
    } catch (const Error&) {
      ++caught;
    }
    bool called = false;  // the second call comes from outside of the coroutine
    try {
      co_await until([&] {
        if (called) fail("in the condition");
        return !(called = true);
      });
    } catch (const Error&) {
      ++caught;
    }
    co_await throwing();
  };
  Operation operation = body();
  EXPECT_TRUE(operation.advance());
  EXPECT_TRUE(operation.advance());
  EXPECT_TRUE(operation.done());
  EXPECT_EQ(caught, 2);
  EXPECT_NE(message_of(operation.error()).find("thrown"), std::string::npos);
}

TEST(Operation, MayEndBeforeItsTime) {
  const auto alive = std::make_shared<int>(0);
  const bool never = false;
  const auto body = [&](std::shared_ptr<int>) -> Operation { co_await wait_for(never); };
  {
    Operation operation = body(alive);
    operation.advance();
    EXPECT_GT(alive.use_count(), 1);
  }
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(CommThread, QueuesDoNotWaitForEachOther) {
  CommThread thread;
  int a = 0, b = 0;  // two queues
  std::atomic<bool> go = false;
  std::vector<int> order;
  const auto note = [&](int i) -> Operation {
    order.push_back(i);
    co_return;
  };
  const auto wait = [&]() -> Operation { co_await until([&] { return go.load(); }); };
  const Event first = thread.enqueue(&a, wait);
  const Event second = thread.enqueue(&a, [&] { return note(2); });
  thread.enqueue(&b, [&] { return note(1); }).wait();
  EXPECT_FALSE(first.done() || second.done());
  go = true;
  second.wait();
  EXPECT_TRUE(first.done());
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(CommThread, ErrorsEndTheirEventOnly) {
  CommThread thread;
  const Event start = thread.enqueue(&thread, []() -> Operation { fail("no start"); });
  const Event run = thread.enqueue(&thread, [] { return throwing(); });
  const Event good = thread.enqueue(&thread, []() -> Operation { co_return; });
  EXPECT_NE(testing::error_of([&] { start.wait(); }).find("no start"), std::string::npos);
  EXPECT_NE(testing::error_of([&] { run.wait(); }).find("thrown"), std::string::npos);
  good.wait();
}

TEST(CommThread, FinishesItsCallsBeforeItGoes) {
  std::atomic<int> turns = 0;
  Event event;
  {
    CommThread thread;
    event = thread.enqueue(&turns,
                           [&]() -> Operation { co_await until([&] { return ++turns == 200; }); });
  }
  EXPECT_TRUE(event.done());
}

TEST(Pieces, CoverEverythingOnceAbove2To31) {
  const int64_t n = (int64_t(1) << 33) + 5, limit = int64_t(1) << 28;
  int64_t next = 0;
  for (const Range& piece : pieces_of(n, limit)) {
    EXPECT_EQ(piece.begin, next);
    EXPECT_TRUE(piece.size > 0 && piece.size <= limit);
    next += piece.size;
  }
  EXPECT_EQ(next, n);
  EXPECT_TRUE(pieces_of(0, limit).empty());
  EXPECT_EQ(pieces_of(limit, limit).size(), 1u);
}

TEST(Pieces, SharesAreEven) {
  for (const int64_t n : {int64_t(0), int64_t(2), int64_t(7), (int64_t(1) << 40) + 3}) {
    int64_t next = 0;
    for (int r = 0; r < 4; ++r) {
      const Range share = share_of(n, r, 4);
      EXPECT_EQ(share.begin, next);
      EXPECT_TRUE(share.size == n / 4 || share.size == n / 4 + 1);
      next += share.size;
    }
    EXPECT_EQ(next, n);
  }
}

TEST(Reduce, SumsOfBf16RoundOnce) {
  // 256 + 1 rounds to 256 in bf16: added one by one, the ones would be lost.
  BFloat16 large(256.0f), one(1.0f);
  BFloat16 sum(0.0f);
  reduce_parts(DType::bf16, ReduceOp::sum, {&large, &one, &one, &one}, &sum, 1);
  EXPECT_EQ(float(sum), 260.0f);  // 259, to nearest
}

TEST(Volume, IsWhatTheBestAlgorithmSends) {
  EXPECT_EQ(comm_volume_bytes(CommKind::all_reduce, 1000, 4), 1500);
  EXPECT_EQ(comm_volume_bytes(CommKind::reduce_scatter, 1000, 4), 750);
  EXPECT_EQ(comm_volume_bytes(CommKind::all_gather, 1000, 4), 750);
  EXPECT_EQ(comm_volume_bytes(CommKind::all_to_all, 1000, 4), 750);
  EXPECT_EQ(comm_volume_bytes(CommKind::broadcast, 1000, 4), 1000);
  EXPECT_EQ(comm_volume_bytes(CommKind::exchange, 1000, 4), 1000);
  EXPECT_EQ(comm_volume_bytes(CommKind::barrier, 0, 4), 0);
  EXPECT_EQ(comm_volume_bytes(CommKind::all_reduce, 1000, 1), 0);
  EXPECT_EQ(comm_volume_bytes(CommKind::all_reduce, 1, 3), 1);  // 4/3
}

}  // namespace
}  // namespace forja
