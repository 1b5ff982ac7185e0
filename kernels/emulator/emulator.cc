// SPDX-License-Identifier: Apache-2.0
#include "kernels/emulator/emulator.h"

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "forja/base/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define FORJA_EMULATOR_ASAN 1
#endif

namespace forja::emulator {
namespace {

namespace context = boost::context;

#ifdef FORJA_EMULATOR_ASAN
constexpr size_t kStackBytes = 512 << 10;
#else
constexpr size_t kStackBytes = 128 << 10;
#endif
constexpr int kNumBarriers = 16;

using Work = std::function<void()>;
using Group = std::vector<Work>;

struct Barrier {
  int arrived = 0;
  int64_t generation = 0;
};

// Where the threads of a warp or warpgroup meet.
struct Meeting {
  std::vector<void*> brought;
  const char* what = nullptr;
  int arrived = 0;
  int64_t generation = 0;
};

struct Block;

struct Thread {
  Place place;
  Block* block = nullptr;
  context::fiber fiber;
  bool started = false, done = false;
  std::function<bool()> ready;  // empty: runs
  const char* waits_for = nullptr;
  struct Pending {
    Group open;
    std::deque<Group> groups;
  } pending[2];
#ifdef FORJA_EMULATOR_ASAN
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;
#endif
};

struct Block {
  std::unique_ptr<char, void (*)(void*)> shared{nullptr, std::free};
  int64_t shared_bytes = 0;
  std::vector<Thread> threads;
  Barrier barriers[kNumBarriers];
  std::vector<Meeting> warps, warpgroups;
  Block* cluster = nullptr;  // the first block of it
};

struct Stop {};  // unwinds a thread when the launch has failed

// Stacks are kept: a launch makes as many fibers as a block has threads, over and over.
class StackPool {
 public:
  context::stack_context allocate() {
    if (free_.empty()) return context::protected_fixedsize_stack(kStackBytes).allocate();
    const context::stack_context stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void deallocate(context::stack_context& stack) { free_.push_back(stack); }
  ~StackPool() {
    for (context::stack_context& s : free_) {
#ifdef FORJA_EMULATOR_ASAN
      // Its marks of frames must not outlive the stack: the memory may come back as anything.
      __asan_unpoison_memory_region(static_cast<char*>(s.sp) - s.size, s.size);
#endif
      context::protected_fixedsize_stack(kStackBytes).deallocate(s);
    }
  }

 private:
  std::vector<context::stack_context> free_;
};

struct PooledStack {
  StackPool* pool;
  context::stack_context allocate() { return pool->allocate(); }
  void deallocate(context::stack_context& stack) { pool->deallocate(stack); }
};

// One launch: the blocks that run together, and who runs now.
class Launch {
 public:
  Launch(const char* kernel, const Shape& shape, const Work& body, std::mt19937_64& random,
         StackPool& stacks)
      : kernel_(kernel), shape_(shape), body_(body), random_(random), stacks_(stacks) {}

  void run();

  bool in_thread() const { return current_ != nullptr; }
  Thread& current() { return *current_; }
  const Shape& shape() const { return shape_; }
  const char* kernel() const { return kernel_; }
  std::mt19937_64& random() { return random_; }
  std::vector<Work>& anytime() { return anytime_; }
  void yield();

 private:
  std::vector<int> random_order(int n);
  void run_blocks(const std::vector<int>& blocks);
  void make_block(Block& block, int index);
  void resume(Thread& thread);
  void run_late_work(bool must);
  void report_hang();

  const char* kernel_;
  const Shape& shape_;
  const Work& body_;
  std::mt19937_64& random_;
  StackPool& stacks_;
  std::vector<Block> blocks_;
  std::vector<Work> anytime_;
  Thread* current_ = nullptr;
  context::fiber scheduler_;
  std::exception_ptr error_;
  bool stopping_ = false;
#ifdef FORJA_EMULATOR_ASAN
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_bytes_ = 0;
  void* scheduler_fake_stack_ = nullptr;
#endif
};

thread_local std::mt19937_64 tls_random{1};
thread_local StackPool tls_stacks;
thread_local Launch* tls_launch = nullptr;
thread_local int tls_compute_capability = 90;
thread_local std::map<std::string, int> tls_launches;

std::string describe(const Thread& t) {
  const Place& p = t.place;
  return fmt::format("block ({}, {}, {}) thread {}", p.block_index.x, p.block_index.y,
                     p.block_index.z, p.thread);
}

std::vector<int> Launch::random_order(int n) {
  std::vector<int> order(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) order[size_t(i)] = i;
  for (int i = n - 1; i > 0; --i) std::swap(order[size_t(i)], order[size_t(random_() % (i + 1))]);
  return order;
}

void Launch::run() {
  const int num_blocks = int(shape_.grid.x * shape_.grid.y * shape_.grid.z);
  std::vector<int> together;
  for (const int cluster : random_order(num_blocks / shape_.cluster)) {
    for (int i = 0; i < shape_.cluster; ++i) together.push_back(cluster * shape_.cluster + i);
    if (shape_.blocks_wait) continue;
    run_blocks(together);
    together.clear();
  }
  if (!together.empty()) run_blocks(together);
}

void Launch::make_block(Block& block, int index) {
  const int num_threads = int(shape_.block.x * shape_.block.y * shape_.block.z);
  const int64_t rounded = (shape_.shared_bytes + 1023) / 1024 * 1024;
  block.shared_bytes = shape_.shared_bytes;
  if (rounded > 0) {
    block.shared.reset(static_cast<char*>(std::aligned_alloc(1024, size_t(rounded))));
    std::memset(block.shared.get(), 0xff, size_t(rounded));
  }
  block.warps.resize(size_t(num_threads + 31) / 32);
  block.warpgroups.resize(size_t(num_threads + 127) / 128);
  for (Meeting& m : block.warps) m.brought.resize(32);
  for (Meeting& m : block.warpgroups) m.brought.resize(128);
  block.threads = std::vector<Thread>(size_t(num_threads));
  for (int i = 0; i < num_threads; ++i) {
    Thread& t = block.threads[size_t(i)];
    t.block = &block;
    Place& p = t.place;
    const unsigned u = unsigned(i), b = unsigned(index);
    p.thread_index = {u % shape_.block.x, u / shape_.block.x % shape_.block.y,
                      u / (shape_.block.x * shape_.block.y)};
    p.block_index = {b % shape_.grid.x, b / shape_.grid.x % shape_.grid.y,
                     b / (shape_.grid.x * shape_.grid.y)};
    p.block_dim = shape_.block;
    p.grid_dim = shape_.grid;
    p.thread = i;
    p.lane = i % 32;
    p.cluster_rank = index % shape_.cluster;
  }
}

void Launch::run_blocks(const std::vector<int>& indices) {
  blocks_ = std::vector<Block>(indices.size());
  std::vector<Thread*> live;
  for (size_t i = 0; i < indices.size(); ++i) {
    make_block(blocks_[i], indices[i]);
    blocks_[i].cluster = &blocks_[i - size_t(indices[i] % shape_.cluster)];
    for (Thread& t : blocks_[i].threads) live.push_back(&t);
  }
  while (!live.empty() && !error_) {
    bool moved = false;
    for (const int i : random_order(int(live.size()))) {
      Thread& t = *live[size_t(i)];
      if (t.ready && !t.ready()) continue;
      moved = true;
      resume(t);
      if (error_) break;
      run_late_work(false);
    }
    if (!moved) run_late_work(true);
    std::erase_if(live, [](const Thread* t) { return t->done; });
  }
  stopping_ = true;
  for (Thread* t : live)
    if (t->started && !t->done) resume(*t);
  stopping_ = false;
  while (!anytime_.empty() && !error_) run_late_work(true);
  blocks_.clear();
  if (error_) std::rethrow_exception(error_);
}

// Copies of the asynchronous engines: now and then, or one of them when nothing else can go on.
void Launch::run_late_work(bool must) {
  if (anytime_.empty()) {
    if (must) report_hang();
    return;
  }
  if (!must && random_() % 8 != 0) return;
  const size_t i = size_t(random_() % anytime_.size());
  const Work work = std::move(anytime_[i]);
  anytime_.erase(anytime_.begin() + long(i));
  try {
    work();
  } catch (...) {
    if (!error_) error_ = std::current_exception();
  }
}

void Launch::report_hang() {
  std::map<std::string, std::pair<int, std::string>> waits;
  for (const Block& b : blocks_) {
    for (const Thread& t : b.threads) {
      if (t.done) continue;
      auto& [count, first] = waits[t.waits_for ? t.waits_for : "?"];
      if (count++ == 0) first = describe(t);
    }
  }
  std::string text;
  for (const auto& [what, who] : waits)
    text += fmt::format("{} {} threads at {} (first: {})", text.empty() ? "" : ";", who.first, what,
                        who.second);
  error_ = std::make_exception_ptr(
      Error(ExitCode::failed, fmt::format("kernel {} hangs:{}", kernel_, text)));
}

void Launch::resume(Thread& thread) {
  current_ = &thread;
  thread.ready = nullptr;
#ifdef FORJA_EMULATOR_ASAN
  if (thread.started)
    __sanitizer_start_switch_fiber(&scheduler_fake_stack_, thread.stack, thread.stack_bytes);
#endif
  if (!thread.started) {
    thread.started = true;
    context::stack_context stack = stacks_.allocate();
#ifdef FORJA_EMULATOR_ASAN
    thread.stack_bytes = stack.size;
    thread.stack = static_cast<char*>(stack.sp) - stack.size;
    __sanitizer_start_switch_fiber(&scheduler_fake_stack_, thread.stack, thread.stack_bytes);
#endif
    thread.fiber = context::fiber(
        std::allocator_arg, context::preallocated(stack.sp, stack.size, stack),
        PooledStack{&stacks_}, [this, &thread](context::fiber&& scheduler) {
#ifdef FORJA_EMULATOR_ASAN
          __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
          scheduler_ = std::move(scheduler);
          try {
            body_();
          } catch (const Stop&) {
          } catch (const context::detail::forced_unwind&) {
            throw;
          } catch (...) {
            if (!error_) error_ = std::current_exception();
          }
          thread.done = true;
#ifdef FORJA_EMULATOR_ASAN
          __sanitizer_start_switch_fiber(nullptr, scheduler_stack_, scheduler_stack_bytes_);
#endif
          return std::move(scheduler_);
        });
  }
  thread.fiber = std::move(thread.fiber).resume();
#ifdef FORJA_EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(scheduler_fake_stack_, nullptr, nullptr);
#endif
  current_ = nullptr;
}

void Launch::yield() {
#ifdef FORJA_EMULATOR_ASAN
  Thread& thread = *current_;
  __sanitizer_start_switch_fiber(&thread.fake_stack, scheduler_stack_, scheduler_stack_bytes_);
#endif
  scheduler_ = std::move(scheduler_).resume();
#ifdef FORJA_EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(thread.fake_stack, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
  if (stopping_) throw Stop{};
}

Thread& me() { return tls_launch->current(); }

}  // namespace

void run(const char* kernel, const Shape& shape, const Work& thread) {
  FORJA_CHECK(shape.grid.x % unsigned(shape.cluster) == 0,
              "kernel {}: a grid of {} in clusters of {}", kernel, shape.grid.x, shape.cluster);
  FORJA_CHECK(tls_launch == nullptr, "kernel {} launched from kernel {}", kernel,
              tls_launch->kernel());
  Launch launch(kernel, shape, thread, tls_random, tls_stacks);
  tls_launch = &launch;
  try {
    launch.run();
  } catch (...) {
    tls_launch = nullptr;
    throw;
  }
  tls_launch = nullptr;
}

void run_in_stream(CUstream_st* stream, const char* kernel, const Shape& shape, Work thread) {
  ++tls_launches[kernel];
  submit(stream, [kernel, shape, seed = tls_random(), thread = std::move(thread)] {
    set_seed(seed);
    run(kernel, shape, thread);
  });
}

void set_seed(uint64_t seed) { tls_random.seed(seed); }
void set_compute_capability(int value) { tls_compute_capability = value; }
int compute_capability() { return tls_compute_capability; }
int num_launches(const char* kernel) { return tls_launches[kernel]; }

const Place& place() { return me().place; }

void* shared_memory(int64_t bytes) {
  if (bytes > me().block->shared_bytes) fault("more shared memory used than launched with");
  return me().block->shared.get();
}

void* cluster_shared_memory(int rank) {
  if (rank < 0 || rank >= tls_launch->shape().cluster) fault("no such block in the cluster");
  return me().block->cluster[rank].shared.get();
}

void wait(const char* what, const std::function<bool()>& ready) {
  // A thread that need not wait lets others go first now and then.
  if (ready() && tls_launch->random()() % 4 != 0) return;
  Thread& thread = me();
  thread.ready = ready;
  thread.waits_for = what;
  tls_launch->yield();
}

uint64_t random(uint64_t n) { return tls_launch->random()() % n; }

void barrier(int id, int count, bool arrive_only) {
  Barrier& b = me().block->barriers[id];
  const int64_t generation = b.generation;
  if (++b.arrived == count) {
    b.arrived = 0;
    ++b.generation;
  } else if (b.arrived > count) {
    fault("barrier: more threads than it counts");
  }
  if (arrive_only) return;
  static const char* const kNames[kNumBarriers] = {"__syncthreads (barrier 0)",
                                                   "barrier 1",
                                                   "barrier 2",
                                                   "barrier 3",
                                                   "barrier 4",
                                                   "barrier 5",
                                                   "barrier 6",
                                                   "barrier 7",
                                                   "barrier 8",
                                                   "barrier 9",
                                                   "barrier 10",
                                                   "barrier 11",
                                                   "barrier 12",
                                                   "barrier 13",
                                                   "barrier 14",
                                                   "barrier 15"};
  wait(kNames[id], [&b, generation] { return b.generation != generation; });
}

void meet(int num_threads, const char* what, void* mine, Compute compute) {
  Thread& thread = me();
  const size_t group = size_t(thread.place.thread / num_threads);
  Meeting& m = num_threads == 32 ? thread.block->warps[group] : thread.block->warpgroups[group];
  if (m.arrived == 0) m.what = what;
  if (std::strcmp(m.what, what) != 0) fault("threads of one warp meet at different instructions");
  m.brought[size_t(thread.place.thread % num_threads)] = mine;
  const int64_t generation = m.generation;
  if (++m.arrived == num_threads) {
    compute(m.brought.data());
    m.arrived = 0;
    ++m.generation;
  }
  wait(what, [&m, generation] { return m.generation != generation; });
}

void enqueue(Queue queue, Work work) { me().pending[int(queue)].open.push_back(std::move(work)); }

void commit(Queue queue) {
  auto& p = me().pending[int(queue)];
  p.groups.push_back(std::move(p.open));
  p.open.clear();
  if (random(4) == 0) wait_groups(queue, 0);  // it may also be done at once
}

void wait_groups(Queue queue, int at_most_pending) {
  auto& p = me().pending[int(queue)];
  while (int(p.groups.size()) > at_most_pending) {
    const Group group = std::move(p.groups.front());
    p.groups.pop_front();
    for (const Work& work : group) work();
  }
}

void enqueue_anytime(Work work) { tls_launch->anytime().push_back(std::move(work)); }

void fault(const char* what) {
  fail("kernel {}: {}: {}", tls_launch->kernel(),
       tls_launch->in_thread() ? describe(me()) : "an asynchronous copy", what);
}

}  // namespace forja::emulator
