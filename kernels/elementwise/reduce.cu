// SPDX-License-Identifier: Apache-2.0
// The first element that is not finite: the smallest index is the same in whatever order it is
// found. Bound by memory: the floor is the bytes of x over the bandwidth.
#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"
#include "kernels/elementwise/elementwise.h"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;  // groups of a thread at a time

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
