// SPDX-License-Identifier: Apache-2.0
// A thread moves one pack of 16 bytes of the widest tensor (four fp32, or eight bf16) at a time, in
// a loop over the grid. Bound by memory: the floor is the bytes of all tensors over the bandwidth.
#include "kernels/elementwise/elementwise.h"

#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/launch.h"
#include "kernels/common/numbers.cuh"
#include "kernels/common/vector.cuh"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kElements = 8;  // of a thread at a time

// values[i] = x[i] for a whole group of kElements (aligned), or for the `count` that are left.
template <class T>
__device__ __forceinline__ void load_elements(const T* x, int count, bool aligned,
                                              float (&values)[kElements]) {
  if (aligned && count >= kElements) {
#pragma unroll
    for (int i = 0; i < kElements; i += kPack<T>) {
      float pack[kPack<T>];
      load_pack(x + i, pack);
#pragma unroll
      for (int j = 0; j < kPack<T>; ++j) values[i + j] = pack[j];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kElements; ++i) values[i] = i < count ? to_float(x[i]) : 0.0f;
}

template <class T>
__device__ __forceinline__ void store_elements(T* x, int count, bool aligned,
                                               const float (&values)[kElements]) {
  if (aligned && count >= kElements) {
#pragma unroll
    for (int i = 0; i < kElements; i += kPack<T>) {
      float pack[kPack<T>];
#pragma unroll
      for (int j = 0; j < kPack<T>; ++j) pack[j] = values[i + j];
      store_pack(x + i, pack);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kElements; ++i)
    if (i < count) x[i] = from_float<T>(values[i]);
}

// Calls body(first element, elements left) for each group of this thread.
template <class Body>
__device__ __forceinline__ void for_groups(int64_t count, const Body& body) {
  const int64_t step = int64_t(gridDim.x) * kThreads * kElements;
  int64_t i = (int64_t(blockIdx.x) * kThreads + thread_index()) * kElements;
  for (; i < count; i += step) body(i, count - i < kElements ? int(count - i) : kElements);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    fill_kernel(T* x, int64_t count, float value, bool aligned) {
  float values[kElements];
#pragma unroll
  for (int i = 0; i < kElements; ++i) values[i] = value;
  for_groups(count, [&](int64_t i, int left) { store_elements(x + i, left, aligned, values); });
}

template <class In, class Out>
__global__ void __launch_bounds__(kThreads)
    convert_kernel(const In* in, Out* out, int64_t count, bool aligned) {
  for_groups(count, [&](int64_t i, int left) {
    float values[kElements];
    load_elements(in + i, left, aligned, values);
    store_elements(out + i, left, aligned, values);
  });
}

template <class A, class B, class Out>
__global__ void __launch_bounds__(kThreads)
    add_kernel(const A* a, const B* b, Out* out, int64_t count, bool aligned) {
  for_groups(count, [&](int64_t i, int left) {
    float x[kElements], y[kElements];
    load_elements(a + i, left, aligned, x);
    load_elements(b + i, left, aligned, y);
#pragma unroll
    for (int j = 0; j < kElements; ++j) x[j] += y[j];
    store_elements(out + i, left, aligned, x);
  });
}

LaunchShape shape_of(const char* name, int64_t count) {
  const int64_t blocks = ceil_div<int64_t>(count, kThreads * kElements);
  return {name, unsigned(std::min<int64_t>(blocks, 16 * num_multiprocessors())), kThreads};
}

}  // namespace

void fill(void* x, DType dtype, int64_t count, float value, KernelStream stream) {
  dispatch_float(dtype, [&]<class T>() {
    launch(shape_of("fill", count), stream, fill_kernel<T>, static_cast<T*>(x), count, value,
           all_aligned16(x));
  });
}

void convert(const void* in, DType in_dtype, void* out, DType out_dtype, int64_t count,
             KernelStream stream) {
  dispatch_float(in_dtype, [&]<class In>() {
    dispatch_float(out_dtype, [&]<class Out>() {
      launch(shape_of("convert", count), stream, convert_kernel<In, Out>,
             static_cast<const In*>(in), static_cast<Out*>(out), count, all_aligned16(in, out));
    });
  });
}

void add(const void* a, DType a_dtype, const void* b, DType b_dtype, void* out, DType out_dtype,
         int64_t count, KernelStream stream) {
  dispatch_float(a_dtype, [&]<class A>() {
    dispatch_float(b_dtype, [&]<class B>() {
      dispatch_float(out_dtype, [&]<class Out>() {
        launch(shape_of("add", count), stream, add_kernel<A, B, Out>, static_cast<const A*>(a),
               static_cast<const B*>(b), static_cast<Out*>(out), count, all_aligned16(a, b, out));
      });
    });
  });
}

}  // namespace forja::kernels
