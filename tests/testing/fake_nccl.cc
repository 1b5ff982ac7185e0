// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/fake_nccl.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "csrc/comm/reduce.h"
#include "kernels/emulator/emulator.h"

namespace forja::testing {

using nccl::Reduction;
using nccl::Result;
using nccl::Type;

namespace {

struct Message {
  const void* data;
  size_t bytes;
  bool taken = false;
};

// The ranks of one communicator.
struct Group {
  explicit Group(int n) : size(n), inputs(size_t(n)), choices(size_t(n)), parts(size_t(n)) {}

  const int size;
  std::mutex mutex;
  std::condition_variable changed;
  bool aborted = false;
  int arrived = 0;
  int64_t generation = 0;
  std::vector<const void*> inputs;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Message>>> messages;  // from, to
  // Of a split: color and key of each rank, and what it gets.
  std::vector<std::pair<int, int>> choices;
  std::vector<std::pair<std::shared_ptr<Group>, int>> parts;

  // False when the group was aborted.
  bool meet(std::unique_lock<std::mutex>& lock, const std::function<void()>& last = nullptr) {
    const int64_t mine = generation;
    if (++arrived == size) {
      if (last) last();
      arrived = 0;
      ++generation;
      changed.notify_all();
    }
    return wait(lock, [&] { return generation != mine; });
  }
  template <class Condition>
  bool wait(std::unique_lock<std::mutex>& lock, Condition condition) {
    changed.wait(lock, [&] { return aborted || condition(); });
    return !aborted;
  }
};

struct Comm {
  std::shared_ptr<Group> group;
  int rank, world_rank;
  std::atomic<int> polls_until_ready{2};
};

std::mutex g_mutex;
std::map<std::string, std::shared_ptr<Group>> g_worlds;  // by unique id
std::atomic<int64_t> g_next_id{1};
std::atomic<int> g_version{22803}, g_broken_rank{-1};

Comm* of(nccl::Communicator* c) { return reinterpret_cast<Comm*>(c); }
nccl::Communicator* handle(Comm* c) { return reinterpret_cast<nccl::Communicator*>(c); }

// As of a communicator that does not block: taken later.
Result taken(Comm* c) {
  c->polls_until_ready = 2;
  return Result::in_progress;
}

// ---- Communicators

Result get_version(int* version) {
  *version = g_version;
  return Result::success;
}
Result get_unique_id(nccl::UniqueId* id) {
  g_broken_rank = -1;
  std::memset(id->bytes, 0, sizeof(id->bytes));
  const int64_t n = g_next_id++;
  std::memcpy(id->bytes, &n, sizeof(n));
  return Result::success;
}
Result comm_init(nccl::Communicator** comm, int size, nccl::UniqueId id, int rank,
                 nccl::Config* config) {
  if (config->magic != 0xcafebeef || config->blocking != 0) return Result::invalid_argument;
  const std::lock_guard lock(g_mutex);
  auto& group = g_worlds[std::string(id.bytes, sizeof(id.bytes))];
  if (!group) group = std::make_shared<Group>(size);
  *comm = handle(new Comm{group, rank, rank});
  return Result::in_progress;
}

// By color; within one, by key and then by rank.
void make_parts(Group& g) {
  for (int r = 0; r < g.size; ++r) {
    const int color = g.choices[size_t(r)].first;
    std::vector<std::pair<int, int>> members;
    for (int s = 0; s < g.size; ++s)
      if (g.choices[size_t(s)].first == color) members.push_back({g.choices[size_t(s)].second, s});
    std::sort(members.begin(), members.end());
    if (members[0].second != r && g.choices[size_t(r)].first != nccl::kNoColor) continue;
    const auto part = std::make_shared<Group>(int(members.size()));
    for (size_t i = 0; i < members.size(); ++i) g.parts[size_t(members[i].second)] = {part, int(i)};
  }
}
Result comm_split(nccl::Communicator* comm, int color, int key, nccl::Communicator** made,
                  nccl::Config*) {
  Comm* c = of(comm);
  Group& g = *c->group;
  std::unique_lock lock(g.mutex);
  g.choices[size_t(c->rank)] = {color, key};
  if (!g.meet(lock, [&] { make_parts(g); })) return Result::internal_error;
  const auto [part, rank] = g.parts[size_t(c->rank)];
  *made = color == nccl::kNoColor ? nullptr : handle(new Comm{part, rank, c->world_rank});
  g.meet(lock);
  return taken(c);
}
Result comm_finalize(nccl::Communicator* comm) { return taken(of(comm)); }
Result comm_destroy(nccl::Communicator* comm) {
  delete of(comm);
  return Result::success;
}
Result comm_abort(nccl::Communicator* comm) {
  Group& g = *of(comm)->group;
  {
    const std::lock_guard lock(g.mutex);
    g.aborted = true;
  }
  g.changed.notify_all();
  delete of(comm);
  return Result::success;
}
Result comm_get_async_error(nccl::Communicator* comm, Result* error) {
  Comm* c = of(comm);
  *error = c->polls_until_ready-- > 0              ? Result::in_progress
           : c->world_rank == g_broken_rank.load() ? Result::remote_error
                                                   : Result::success;
  return Result::success;
}
const char* get_error_string(Result r) {
  return r == Result::remote_error ? "remote process exited or there was a network error"
                                   : "an error";
}
const char* get_last_error(nccl::Communicator*) { return "the fake was told to"; }

// ---- Collectives. Each is one piece of work in the stream: ranks show their inputs, meet, take
// what they need, meet again, and write.

DType dtype_of_type(Type type) {
  switch (type) {
    case Type::f32:
      return DType::f32;
    case Type::f64:
      return DType::f64;
    case Type::bf16:
      return DType::bf16;
    case Type::i32:
      return DType::i32;
    case Type::i64:
      return DType::i64;
    case Type::u8:
      break;
  }
  return DType::u8;
}
ReduceOp op_of(Reduction op) {
  return op == Reduction::sum   ? ReduceOp::sum
         : op == Reduction::max ? ReduceOp::max
                                : ReduceOp::min;
}

using Take = std::function<void(const std::vector<const void*>& inputs, char* result)>;

Result collective(Comm* c, CUstream_st* stream, const void* from, void* to, size_t result_bytes,
                  Take take) {
  emulator::submit(stream, [group = c->group, rank = c->rank, from, to, result_bytes, take] {
    std::vector<char> result(result_bytes);
    std::unique_lock lock(group->mutex);
    group->inputs[size_t(rank)] = from;
    if (!group->meet(lock)) return;
    const std::vector<const void*> inputs = group->inputs;
    lock.unlock();
    take(inputs, result.data());
    lock.lock();
    if (!group->meet(lock)) return;
    if (result_bytes > 0) std::memcpy(to, result.data(), result_bytes);
  });
  return taken(c);
}

std::vector<const void*> at(const std::vector<const void*>& inputs, size_t offset) {
  std::vector<const void*> out;
  for (const void* p : inputs) out.push_back(static_cast<const char*>(p) + offset);
  return out;
}

Result reduce(Comm* c, CUstream_st* stream, const void* from, void* to, size_t count, Type type,
              Reduction op, int part) {
  const DType dtype = dtype_of_type(type);
  const size_t bytes = count * size_t(dtype_bytes(dtype));
  return collective(c, stream, from, to, bytes, [=](const auto& inputs, char* result) {
    if (count > 0)
      reduce_parts(dtype, op_of(op), at(inputs, size_t(part) * bytes), result, int64_t(count));
  });
}
Result all_reduce(const void* from, void* to, size_t count, Type type, Reduction op,
                  nccl::Communicator* comm, CUstream_st* stream) {
  return reduce(of(comm), stream, from, to, count, type, op, 0);
}
Result reduce_scatter(const void* from, void* to, size_t count, Type type, Reduction op,
                      nccl::Communicator* comm, CUstream_st* stream) {
  return reduce(of(comm), stream, from, to, count, type, op, of(comm)->rank);
}
Result all_gather(const void* from, void* to, size_t count, Type type, nccl::Communicator* comm,
                  CUstream_st* stream) {
  const size_t bytes = count * size_t(dtype_bytes(dtype_of_type(type)));
  return collective(of(comm), stream, from, to, bytes * size_t(of(comm)->group->size),
                    [=](const auto& inputs, char* result) {
                      for (size_t r = 0; r < inputs.size() && bytes > 0; ++r)
                        std::memcpy(result + r * bytes, inputs[r], bytes);
                    });
}
Result broadcast(const void* from, void* to, size_t count, Type type, int root,
                 nccl::Communicator* comm, CUstream_st* stream) {
  const size_t bytes = count * size_t(dtype_bytes(dtype_of_type(type)));
  return collective(of(comm), stream, from, to, bytes, [=](const auto& inputs, char* result) {
    if (bytes > 0) std::memcpy(result, inputs[size_t(root)], bytes);
  });
}

// ---- Point to point: what a group of calls holds progresses together, as one piece of work.

struct Transfer {
  bool sends;
  void* data;
  size_t bytes;
  int peer;
};
struct Open {
  int depth = 0;
  Comm* comm = nullptr;
  CUstream_st* stream = nullptr;
  std::vector<Transfer> transfers;
};
thread_local Open tls_open;

void move(Group& g, int rank, const std::vector<Transfer>& transfers) {
  std::unique_lock lock(g.mutex);
  std::vector<std::shared_ptr<Message>> sent;
  for (const Transfer& t : transfers) {
    if (!t.sends) continue;
    sent.push_back(std::make_shared<Message>(Message{t.data, t.bytes}));
    g.messages[{rank, t.peer}].push_back(sent.back());
  }
  g.changed.notify_all();
  for (const Transfer& t : transfers) {
    if (t.sends) continue;
    auto& queue = g.messages[{t.peer, rank}];
    if (!g.wait(lock, [&] { return !queue.empty(); })) return;
    if (t.bytes > 0)
      std::memcpy(t.data, queue.front()->data, std::min(t.bytes, queue.front()->bytes));
    queue.front()->taken = true;
    queue.pop_front();
    g.changed.notify_all();
  }
  for (const auto& message : sent)
    if (!g.wait(lock, [&] { return message->taken; })) return;
}

Result group_start() {
  ++tls_open.depth;
  return Result::success;
}
Result group_end() {
  if (--tls_open.depth > 0) return Result::success;
  Open open = std::move(tls_open);
  tls_open = {};
  if (!open.comm) return Result::success;
  emulator::submit(open.stream, [group = open.comm->group, rank = open.comm->rank,
                                 transfers = open.transfers] { move(*group, rank, transfers); });
  return taken(open.comm);
}
Result add_transfer(Comm* c, CUstream_st* stream, const Transfer& t) {
  group_start();
  tls_open.comm = c;
  tls_open.stream = stream;
  tls_open.transfers.push_back(t);
  return group_end();
}
Result send(const void* from, size_t count, Type type, int peer, nccl::Communicator* comm,
            CUstream_st* stream) {
  const size_t bytes = count * size_t(dtype_bytes(dtype_of_type(type)));
  return add_transfer(of(comm), stream, {true, const_cast<void*>(from), bytes, peer});
}
Result recv(void* to, size_t count, Type type, int peer, nccl::Communicator* comm,
            CUstream_st* stream) {
  const size_t bytes = count * size_t(dtype_bytes(dtype_of_type(type)));
  return add_transfer(of(comm), stream, {false, to, bytes, peer});
}

}  // namespace

nccl::Library fake_nccl(int version) {
  static const nccl::Api api = {get_version,      get_unique_id,  comm_init,  comm_split,
                                comm_finalize,    comm_destroy,   comm_abort, comm_get_async_error,
                                get_error_string, get_last_error, all_reduce, reduce_scatter,
                                all_gather,       broadcast,      send,       recv,
                                group_start,      group_end};
  g_version = version;
  return {&api, ""};
}

void break_fake_nccl(int rank) { g_broken_rank = rank; }

}  // namespace forja::testing
