// SPDX-License-Identifier: Apache-2.0
// Reductions of all elements to one number.
// Sum of squares: threads go through the elements with a stride of the grid, whose size depends on
// the count alone, and add in fp64; blocks write their sums, which one block adds in order.
// First non-finite element: the smallest index is the same in whatever order it is found.
// Bound by memory: the floor is the bytes of x over the bandwidth.
#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"
#include "kernels/common/warp.cuh"
#include "kernels/elementwise/elementwise.h"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;  // groups of a thread at a time
constexpr int kFinalThreads = 1024;

struct Sums {
  SharedArray<double, 32> scratch;
};

// Calls body(value, index) for the elements of this thread, several loads at a time; zeros stand
// for what is behind the last one.
template <class T, class Body>
__device__ __forceinline__ void for_elements(const T* x, int64_t count, bool aligned,
                                             const Body& body) {
  constexpr int N = kPack<T>;
  const int64_t step = int64_t(gridDim.x) * kThreads * N;
  for (int64_t i = (int64_t(blockIdx.x) * kThreads + thread_index()) * N; i < count;
       i += step * kUnroll) {
    float values[kUnroll][N];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
      load_elements(x + i + u * step, clamp_count(count - i - u * step, N), aligned, values[u]);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int j = 0; j < N; ++j) body(values[u][j], i + u * step + j);
  }
}

__global__ void __launch_bounds__(kThreads)
    sum_of_squares_kernel(const float* x, int64_t count, double* partial, bool aligned) {
  double sum = 0.0;
  for_elements(x, count, aligned,
               [&](float value, int64_t) { sum += double(value) * double(value); });
  sum = block_reduce<Sum>(sum, shared_storage<Sums>().scratch);
  if (thread_index() == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kFinalThreads)
    add_sums_kernel(const double* partial, int blocks, double* sum) {
  double mine = 0.0;
  for (int i = thread_index(); i < blocks; i += kFinalThreads) mine += partial[i];
  mine = block_reduce<Sum>(mine, shared_storage<Sums>().scratch);
  if (thread_index() == 0) sum[0] += mine;
}

__global__ void set_none_kernel(int64_t* first) {
  if (thread_index() == 0) first[0] = kNoneFound;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    find_non_finite_kernel(const T* x, int64_t count, int64_t* first, bool aligned) {
  int64_t found = kNoneFound;
  for_elements(x, count, aligned, [&](float value, int64_t index) {
    // Infinities and NaNs minus themselves are NaN.
    const bool finite = value - value == 0.0f;
    if (!finite && index < found) found = index;
  });
  if (found != kNoneFound) atomic_min(first, found);
}

}  // namespace

void add_sum_of_squares(const float* x, int64_t count, double* sum, double* partial,
                        KernelStream stream) {
  const int64_t blocks = sum_of_squares_blocks(count);
  constexpr int64_t kShared = sizeof(Sums);
  launch({"sum_of_squares", unsigned(blocks), kThreads, kShared}, stream, sum_of_squares_kernel, x,
         count, partial, all_aligned16(x));
  launch({"add_sums", 1, kFinalThreads, kShared}, stream, add_sums_kernel, partial, int(blocks),
         sum);
}

void find_non_finite(const void* x, DType dtype, int64_t count, int64_t* first,
                     KernelStream stream) {
  launch({"set_none", 1, kWarp}, stream, set_none_kernel, first);
  dispatch_float(dtype, [&]<class T>() {
    const int64_t blocks = ceil_div<int64_t>(count, kThreads * kPack<T> * kUnroll);
    launch({"find_non_finite", unsigned(std::min<int64_t>(blocks, 8 * num_multiprocessors())),
            kThreads},
           stream, find_non_finite_kernel<T>, static_cast<const T*>(x), count, first,
           all_aligned16(x));
  });
}

}  // namespace forja::kernels
