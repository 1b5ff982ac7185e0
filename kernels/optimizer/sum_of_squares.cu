// SPDX-License-Identifier: Apache-2.0
// The sum of the squares of all gradients of a list: each thread has the loads of its whole part of
// a chunk on their way at once and adds in fp64; blocks write their sums, which one block adds in
// order. The number of blocks depends on the list alone, and so does every bit of the sum.
// Bound by memory: the floor is 4 bytes an element over the bandwidth.
#include "kernels/common/launch.h"
#include "kernels/common/warp.cuh"
#include "kernels/optimizer/list.cuh"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int N = 4;
constexpr int kGroups = kAdamWChunk / (kThreads * N);  // of a thread in a chunk
constexpr int kFinalThreads = 1024;

struct Sums {
  SharedArray<double, 32> scratch;
};

__global__ void __launch_bounds__(kThreads) sum_of_squares_kernel(AdamWList list, double* partial) {
  double sum = 0.0;
  for (int64_t index = blockIdx.x; index < list.num_chunks; index += gridDim.x) {
    const Chunk chunk = chunk_of(list, index);
    if (!chunk.range->counts) continue;
    const float* x = chunk.range->gradient;
    const bool aligned = chunk.range->aligned;
    float values[kGroups][N];
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const int64_t i = chunk.begin + (k * kThreads + thread_index()) * N;
      load_elements(x + i, clamp_count(chunk.end - i, N), aligned, values[k]);
    }
#pragma unroll
    for (int k = 0; k < kGroups; ++k)
#pragma unroll
      for (int j = 0; j < N; ++j) sum += double(values[k][j]) * double(values[k][j]);
  }
  sum = block_reduce<Sum>(sum, shared_storage<Sums>().scratch);
  if (thread_index() == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kFinalThreads)
    add_sums_kernel(const double* partial, int blocks, double* sum) {
  double mine = 0.0;
  for (int i = thread_index(); i < blocks; i += kFinalThreads) mine += partial[i];
  mine = block_reduce<Sum>(mine, shared_storage<Sums>().scratch);
  if (thread_index() == 0) sum[0] = mine;
}

}  // namespace

void sum_of_squares(const AdamWList& list, double* sum, double* partial, KernelStream stream) {
  const int64_t blocks = sum_of_squares_blocks(list.num_chunks);
  constexpr int64_t kShared = sizeof(Sums);
  launch({"sum_of_squares", unsigned(blocks), kThreads, kShared}, stream, sum_of_squares_kernel,
         list, partial);
  launch({"add_sums", 1, kFinalThreads, kShared}, stream, add_sums_kernel, partial, int(blocks),
         sum);
}

}  // namespace forja::kernels
