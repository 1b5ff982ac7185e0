// SPDX-License-Identifier: Apache-2.0
// Runs kernels on the CPU, from their own source: every thread of a block is a fiber, resumed in a
// random order; whatever a GPU does later (copies, matrix products) is done late and in a random
// order. It finds wrong indices, missing barriers and waits, lost arrivals, and hangs, which end in
// a message that names what everybody waits for. It cannot show memory ordering between proxies,
// bank conflicts or speed.
//
// kernels/common is what kernels call; its host bodies call this. One thread of the process runs
// one launch at a time; several may run launches side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

struct CUstream_st;

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace forja::emulator {

struct Shape {
  dim3 grid, block;
  int64_t shared_bytes = 0;
  int cluster = 1;           // blocks along x that run together
  bool blocks_wait = false;  // for each other: all run together
};

// Runs `thread` once for each thread of the grid. Throws Error when threads wait for what never
// comes, and whatever a thread throws.
void run(const char* kernel, const Shape& shape, const std::function<void()>& thread);

// Puts work into a stream of the emulated GPU, which runs it later on a thread of its own; without
// a stream it runs at once. Defined where streams are, in csrc/device/emulated.
void submit(CUstream_st* stream, std::function<void()> work);
// run(), in a stream, in an order that the seed of the calling thread decides.
void run_in_stream(CUstream_st* stream, const char* kernel, const Shape& shape,
                   std::function<void()> thread);

// Of the orders in which threads run from now on, on the calling thread of the process.
void set_seed(uint64_t seed);
// What kernels take the device for: 80, 90, ... Default 90.
void set_compute_capability(int value);
int compute_capability();
// How often the calling thread of the process has launched the kernel of that name, in any stream.
int num_launches(const char* kernel);

// ---- For the host bodies of kernels/common; all speak of the thread of the kernel that runs.

struct Place {
  uint3 thread_index, block_index;
  dim3 block_dim, grid_dim;
  int thread = 0, lane = 0;  // thread: linear in the block
  int cluster_rank = 0;
};
const Place& place();

// The dynamic shared memory of the block, 1024-byte aligned, filled with NaNs; fails where it has
// less than `bytes`.
void* shared_memory(int64_t bytes);
// The same of another block of the cluster.
void* cluster_shared_memory(int rank);

// Lets others run until ready(), which only reads. `what` names it in the message about a hang.
void wait(const char* what, const std::function<bool()>& ready);
// A random number below `n`: for choices that a GPU makes in any way.
uint64_t random(uint64_t n);

// bar.sync / bar.arrive of `count` threads. Barrier 0 of all threads is __syncthreads().
void barrier(int id, int count, bool arrive_only);

// All threads of the warp (32) or warpgroup (128) meet; the last one runs compute with what each
// brought, by lane. Every thread must bring the same `what`.
using Compute = void (*)(void* const* all);
void meet(int num_threads, const char* what, void* mine, Compute compute);

// ---- Copies and products that are carried out later.

// By the thread itself: into its open group; done at the latest by its wait (cp.async, wgmma).
enum class Queue { copy, matrix };
void enqueue(Queue queue, std::function<void()> work);
void commit(Queue queue);
void wait_groups(Queue queue, int at_most_pending);
// By nobody's order: at any time from now on (TMA); a thread that would hang runs it first.
void enqueue_anytime(std::function<void()> work);

// Fails with a message that names the kernel, the block and the thread.
[[noreturn]] void fault(const char* what);

}  // namespace forja::emulator
