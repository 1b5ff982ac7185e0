// SPDX-License-Identifier: Apache-2.0
// One block a row. Rows begin anywhere (the vocabulary may be odd): a thread each takes the
// elements before the first 16-byte boundary and those after the last one, and groups lie between.
// Where the input's and the output's boundaries do not meet, all elements are single ones.
// Statistics: each thread keeps the maximum so far and the sum of exponentials relative to it (the
// online softmax of Milakov and Gimelshein, 2018), rescaled when the maximum grows, once for the
// groups that are in flight; the threads' results are joined at the end, in a fixed order.
// Bound by memory: the floor is the bytes of the logits, of the gradient also those of the output,
// over the bandwidth.
#include "kernels/loss/cross_entropy.h"

#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"
#include "kernels/common/warp.cuh"

namespace forja::kernels {
namespace {

constexpr int kMaxThreads = 512;
constexpr int kAtOnce = 16;  // elements of a thread at a time

// How many single elements come before the groups; all of them, when there can be none.
template <class T>
__device__ __forceinline__ int64_t elements_before_boundary(const T* x, int64_t columns) {
  const int64_t beyond = int64_t(reinterpret_cast<uintptr_t>(x) / sizeof(T)) % kPack<T>;
  const int64_t head = beyond == 0 ? 0 : kPack<T> - beyond;
  return head < columns ? head : columns;
}
template <class In, class Out>
__device__ __forceinline__ int64_t elements_before_boundaries(const In* x, const Out* y,
                                                              int64_t columns) {
  // The narrower dtype has the rarer boundaries.
  const int64_t head = sizeof(In) < sizeof(Out) ? elements_before_boundary(x, columns)
                                                : elements_before_boundary(y, columns);
  const bool meet = reinterpret_cast<uintptr_t>(x + head) % 16 == 0 &&
                    reinterpret_cast<uintptr_t>(y + head) % 16 == 0;
  return meet ? head : columns;
}

// The maximum of some elements and the sum of exp(element - maximum). Where all are -infinity the
// sum is relative to 0, so that it is 0 and not NaN; a NaN is carried by the sum.
struct Statistics {
  float maximum = -INFINITY, sum = 0.0f;

  static __device__ __forceinline__ float reference(float maximum) {
    return maximum == -INFINITY ? 0.0f : maximum;
  }
  template <int N>
  __device__ __forceinline__ void add(const float (&values)[N]) {
    float larger = maximum;
#pragma unroll
    for (int i = 0; i < N; ++i) larger = Max::combine(values[i], larger);
    const float r = reference(larger);
    float part = 0.0f;
#pragma unroll
    for (int i = 0; i < N; ++i) part += fast_exp(values[i] - r);
    sum = sum * fast_exp(maximum - r) + part;
    maximum = larger;
  }
};

struct Scratch {
  SharedArray<float, 32> maximum, sum;
};

template <class T>
__global__ void __launch_bounds__(kMaxThreads)
    softmax_statistics_kernel(Logits a, float* maximum, float* sum_exp, float* target_logit) {
  constexpr int N = kGroup<T>, kUnroll = kAtOnce / N;
  const int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(a.data) + row * a.stride;
  const int64_t head = elements_before_boundary(x, a.columns);
  const int64_t groups = (a.columns - head) / N, threads = blockDim.x;
  Statistics mine;
  for (int64_t g = thread_index(); g < groups; g += threads * kUnroll) {
    float values[kUnroll * N];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      float group[N];
      const bool inside = g + u * threads < groups;
      if (inside) load_elements(x + head + (g + u * threads) * N, N, true, group);
#pragma unroll
      for (int i = 0; i < N; ++i) values[u * N + i] = inside ? group[i] : -INFINITY;
    }
    mine.add(values);
  }
  const int64_t tail = head + groups * N, singles = head + a.columns - tail;
  for (int64_t i = thread_index(); i < singles; i += threads) {
    const float value[1] = {to_float(x[i < head ? i : tail + i - head])};
    mine.add(value);
  }

  Scratch& scratch = shared_storage<Scratch>();
  const float largest = block_reduce<Max>(mine.maximum, scratch.maximum);
  const float factor = fast_exp(mine.maximum - Statistics::reference(largest));
  const float sum = block_reduce<Sum>(mine.sum * factor, scratch.sum);
  if (thread_index() == 0) {
    maximum[row] = largest;
    sum_exp[row] = sum;
    const int64_t target = a.targets[row], column = target - a.first_column;
    const bool here = target >= 0 && column >= 0 && column < a.columns;
    target_logit[row] = here ? to_float(x[column]) : 0.0f;
  }
}

// The gradient of `values`, the logits from `column` on; target is the row's target's column.
template <int N>
__device__ __forceinline__ void gradient_of(float (&values)[N], int64_t column, int64_t target,
                                            float lse, float coefficient) {
  const int hit = target >= column && target < column + N ? int(target - column) : -1;
  float of_target = 0.0f;  // p - 1, without the cancellation where p is near 1
  if (hit >= 0) {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (hit == i) of_target = values[i];
    of_target = expm1f(of_target - lse);
  }
#pragma unroll
  for (int i = 0; i < N; ++i)
    values[i] = coefficient * (hit == i ? of_target : fast_exp(values[i] - lse));
}

template <class In, class Out>
__global__ void __launch_bounds__(kMaxThreads)
    softmax_gradient_kernel(Logits a, const float* lses, const float* coefficients, Out* out,
                            int64_t out_stride) {
  constexpr int N = kGroup<In, Out>, kUnroll = kAtOnce / N;
  const int64_t row = blockIdx.x;
  const In* x = static_cast<const In*>(a.data) + row * a.stride;
  Out* dx = out + row * out_stride;
  const float lse = lses[row], coefficient = coefficients[row];
  const bool zero = coefficient == 0.0f;
  const int64_t target = a.targets[row] < 0 ? -1 : a.targets[row] - a.first_column;
  const int64_t head = elements_before_boundaries(x, dx, a.columns);
  const int64_t groups = (a.columns - head) / N, threads = blockDim.x;
  for (int64_t g = thread_index(); g < groups; g += threads * kUnroll) {
    float values[kUnroll][N];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const bool read = g + u * threads < groups && !zero;
      const int64_t first = head + (g + u * threads) * N;
      load_elements(x + first, read ? N : 0, read, values[u]);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (g + u * threads >= groups) break;
      const int64_t first = head + (g + u * threads) * N;
      if (!zero) gradient_of(values[u], first, target, lse, coefficient);
      store_elements(dx + first, N, true, values[u]);
    }
  }
  const int64_t tail = head + groups * N, singles = head + a.columns - tail;
  for (int64_t i = thread_index(); i < singles; i += threads) {
    const int64_t column = i < head ? i : tail + i - head;
    float value[1] = {0.0f};
    if (!zero) {
      value[0] = to_float(x[column]);
      gradient_of(value, column, target, lse, coefficient);
    }
    dx[column] = from_float<Out>(value[0]);
  }
}

__global__ void __launch_bounds__(256)
    log_probability_kernel(const float* maximum, const float* sum_exp, const float* target_logit,
                           const int32_t* targets, float* lse, float* log_probability,
                           int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * 256 + thread_index();
  if (i >= count) return;
  const float log_sum = maximum[i] + logf(sum_exp[i]);
  log_probability[i] = targets[i] >= 0 ? target_logit[i] - log_sum : 0.0f;
  lse[i] = log_sum;
}

__global__ void __launch_bounds__(256)
    rescale_sum_exp_kernel(const float* maximum, const float* largest, float* sum_exp,
                           int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * 256 + thread_index();
  if (i < count) sum_exp[i] *= expf(maximum[i] - largest[i]);
}

LaunchShape shape_of(const char* name, const Logits& a) {
  const int64_t warps = ceil_div<int64_t>(a.columns, kAtOnce * kWarp);
  const int64_t threads = kWarp * std::clamp<int64_t>(warps, 1, kMaxThreads / kWarp);
  return {name, unsigned(a.rows), unsigned(threads), int64_t(sizeof(Scratch))};
}

LaunchShape shape_of(const char* name, int64_t count) {
  return {name, unsigned(ceil_div<int64_t>(count, 256)), 256};
}

}  // namespace

void softmax_statistics(const Logits& a, float* maximum, float* sum_exp, float* target_logit,
                        KernelStream stream) {
  dispatch_float(a.dtype, [&]<class T>() {
    launch(shape_of("softmax_statistics", a), stream, softmax_statistics_kernel<T>, a, maximum,
           sum_exp, target_logit);
  });
}

void softmax_gradient(const Logits& a, const float* lse, const float* coefficient, void* out,
                      DType out_dtype, int64_t out_stride, KernelStream stream) {
  dispatch_float(a.dtype, [&]<class In>() {
    dispatch_float(out_dtype, [&]<class Out>() {
      launch(shape_of("softmax_gradient", a), stream, softmax_gradient_kernel<In, Out>, a, lse,
             coefficient, static_cast<Out*>(out), out_stride);
    });
  });
}

void log_probability(const float* maximum, const float* sum_exp, const float* target_logit,
                     const int32_t* targets, float* lse, float* log_probability, int64_t count,
                     KernelStream stream) {
  launch(shape_of("log_probability", count), stream, log_probability_kernel, maximum, sum_exp,
         target_logit, targets, lse, log_probability, count);
}

void rescale_sum_exp(const float* maximum, const float* largest, float* sum_exp, int64_t count,
                     KernelStream stream) {
  launch(shape_of("rescale_sum_exp", count), stream, rescale_sum_exp_kernel, maximum, largest,
         sum_exp, count);
}

}  // namespace forja::kernels
