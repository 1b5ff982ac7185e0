// SPDX-License-Identifier: Apache-2.0
// A thread moves one group of elements at a time (elements.cuh: 16 bytes of the widest tensor), in
// a loop over the grid. Bound by memory: the floor is the bytes of all tensors over the bandwidth.
#include "kernels/elementwise/elementwise.h"

#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;

// Calls body(first element, elements left) for each group of this thread.
template <int N, class Body>
__device__ __forceinline__ void for_groups(int64_t count, const Body& body) {
  const int64_t step = int64_t(gridDim.x) * kThreads * N;
  int64_t i = (int64_t(blockIdx.x) * kThreads + thread_index()) * N;
  for (; i < count; i += step) body(i, clamp_count(count - i, N));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    fill_kernel(T* x, int64_t count, float value, bool aligned) {
  constexpr int N = kGroup<T>;
  float values[N];
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = value;
  for_groups<N>(count, [&](int64_t i, int left) { store_elements(x + i, left, aligned, values); });
}

template <class In, class Out>
__global__ void __launch_bounds__(kThreads)
    convert_kernel(const In* in, Out* out, int64_t count, bool aligned) {
  constexpr int N = kGroup<In, Out>;
  for_groups<N>(count, [&](int64_t i, int left) {
    float values[N];
    load_elements(in + i, left, aligned, values);
    store_elements(out + i, left, aligned, values);
  });
}

template <class A, class B, class Out>
__global__ void __launch_bounds__(kThreads)
    add_kernel(const A* a, const B* b, Out* out, int64_t count, bool aligned) {
  constexpr int N = kGroup<A, B, Out>;
  for_groups<N>(count, [&](int64_t i, int left) {
    float x[N], y[N];
    load_elements(a + i, left, aligned, x);
    load_elements(b + i, left, aligned, y);
#pragma unroll
    for (int j = 0; j < N; ++j) x[j] += y[j];
    store_elements(out + i, left, aligned, x);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    scale_kernel(const T* x, float factor, T* out, int64_t count, bool aligned) {
  constexpr int N = kGroup<T>;
  for_groups<N>(count, [&](int64_t i, int left) {
    float values[N];
    load_elements(x + i, left, aligned, values);
#pragma unroll
    for (int j = 0; j < N; ++j) values[j] *= factor;
    store_elements(out + i, left, aligned, values);
  });
}

LaunchShape shape_of(const char* name, int64_t count, int group) {
  const int64_t blocks = ceil_div<int64_t>(count, kThreads * group);
  return {name, unsigned(std::min<int64_t>(blocks, 16 * num_multiprocessors())), kThreads};
}

}  // namespace

void fill(void* x, DType dtype, int64_t count, float value, KernelStream stream) {
  dispatch_float(dtype, [&]<class T>() {
    launch(shape_of("fill", count, kGroup<T>), stream, fill_kernel<T>, static_cast<T*>(x), count,
           value, all_aligned16(x));
  });
}

void convert(const void* in, DType in_dtype, void* out, DType out_dtype, int64_t count,
             KernelStream stream) {
  dispatch_float(in_dtype, [&]<class In>() {
    dispatch_float(out_dtype, [&]<class Out>() {
      launch(shape_of("convert", count, kGroup<In, Out>), stream, convert_kernel<In, Out>,
             static_cast<const In*>(in), static_cast<Out*>(out), count, all_aligned16(in, out));
    });
  });
}

void add(const void* a, DType a_dtype, const void* b, DType b_dtype, void* out, DType out_dtype,
         int64_t count, KernelStream stream) {
  dispatch_float(a_dtype, [&]<class A>() {
    dispatch_float(b_dtype, [&]<class B>() {
      dispatch_float(out_dtype, [&]<class Out>() {
        launch(shape_of("add", count, kGroup<A, B, Out>), stream, add_kernel<A, B, Out>,
               static_cast<const A*>(a), static_cast<const B*>(b), static_cast<Out*>(out), count,
               all_aligned16(a, b, out));
      });
    });
  });
}

void scale(const void* x, float factor, void* out, DType dtype, int64_t count,
           KernelStream stream) {
  dispatch_float(dtype, [&]<class T>() {
    launch(shape_of("scale", count, kGroup<T>), stream, scale_kernel<T>, static_cast<const T*>(x),
           factor, static_cast<T*>(out), count, all_aligned16(x, out));
  });
}

}  // namespace forja::kernels
