// SPDX-License-Identifier: Apache-2.0
// First pass: a block has a strip of columns (32 lanes of one group each) and a part of the rows,
// which its eight warps take in turn, four at a time each; the warps' sums meet in shared memory.
// Second pass: a block has 32 columns, and each of its eight warps every eighth row.
// Bound by memory: the floor is the bytes of the matrix over the bandwidth; the partial sums are
// at most 4 MiB and an eighth of it.
#include "kernels/elementwise/column_sums.h"

#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kUnroll = 4;  // rows of a warp at a time
template <int N>
struct WarpSums {
  SharedArray<float, kWarps * kWarp * N> value;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(Rows x, int64_t rows, int64_t columns, float* partial, bool aligned) {
  constexpr int N = kPack<T>;
  const int64_t first = (int64_t(blockIdx.x) * kWarp + lane_index()) * N;
  const int count = clamp_count(columns - first, N);
  const int64_t rows_per_block = ceil_div<int64_t>(rows, gridDim.y);
  const int64_t begin = int64_t(blockIdx.y) * rows_per_block;
  const int64_t end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
  float sum[N];
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] = 0.0f;
  for (int64_t r = begin + warp_index(); r < end; r += kWarps * kUnroll) {
    Bits16 bits[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t row = r + u * kWarps;
      const bool inside = row < end;
      bits[u] = load_group(x.row<T>(inside ? row : r) + first, inside ? count : 0, aligned);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      float values[N];
      unpack<T>(bits[u], values);
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += values[i];
    }
  }
  auto& shared = shared_storage<WarpSums<N>>().value;
#pragma unroll
  for (int i = 0; i < N; ++i) shared[(warp_index() * N + i) * kWarp + lane_index()] = sum[i];
  sync_block();
  for (int c = thread_index(); c < kWarp * N; c += kThreads) {
    const int64_t column = int64_t(blockIdx.x) * kWarp * N + c;
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += shared[(w * N + c % N) * kWarp + c / N];
    if (column < columns) partial[int64_t(blockIdx.y) * columns + column] = total;
  }
}

__global__ void __launch_bounds__(kThreads)
    add_column_sums_kernel(const float* partial, int64_t rows, int64_t columns, float* out) {
  const int64_t column = int64_t(blockIdx.x) * kWarp + lane_index();
  float sum = 0.0f;
  if (column < columns) {
#pragma unroll 8
    for (int64_t r = warp_index(); r < rows; r += kWarps) sum += partial[r * columns + column];
  }
  auto& shared = shared_storage<WarpSums<1>>().value;
  shared[thread_index()] = sum;
  sync_block();
  if (warp_index() != 0 || column >= columns) return;
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) total += shared[w * kWarp + lane_index()];
  out[column] += total;
}

}  // namespace

void column_sums(const Rows& x, DType dtype, int64_t rows, int64_t columns, float* partial,
                 KernelStream stream) {
  dispatch_float(dtype, [&]<class T>() {
    constexpr int N = kPack<T>;
    const dim3 grid(unsigned(ceil_div<int64_t>(columns, kWarp * N)),
                    unsigned(column_sum_blocks(rows, columns)));
    launch({"column_sums", grid, kThreads, int64_t(sizeof(WarpSums<N>))}, stream,
           column_sums_kernel<T>, x, rows, columns, partial, x.aligned(N));
  });
}

void add_column_sums(const float* partial, int64_t rows, int64_t columns, float* out,
                     KernelStream stream) {
  launch({"add_column_sums", unsigned(ceil_div<int64_t>(columns, kWarp)), kThreads,
          int64_t(sizeof(WarpSums<1>))},
         stream, add_column_sums_kernel, partial, rows, columns, out);
}

}  // namespace forja::kernels
