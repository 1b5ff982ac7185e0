// SPDX-License-Identifier: Apache-2.0
// Element e of the full tensor takes word e % 4 of philox(key, e / 4): a thread makes the four or
// eight words of a group that begins at a multiple of its size in the full tensor, whatever part of
// it this tensor is.
// Dropout reads x and writes y once, but 25 integer instructions an element for the words are of
// the order of what a GPU does while it moves a bf16 element: near the floor in fp32 only.
// fill_normal is bound by its fp64 logarithms and sines; it runs once.
#include <algorithm>

#include "forja/base/dispatch.h"
#include "forja/base/philox.h"
#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"
#include "kernels/elementwise/elementwise.h"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;

// The tensor's elements that lie in the group of the full tensor from `element`: values[lo, hi).
struct GroupRange {
  int64_t first;  // index in the tensor of values[0]; may be negative
  int lo, hi;
};
template <int N>
__device__ __forceinline__ GroupRange range_of(int64_t element, int64_t first_element,
                                               int64_t count) {
  const int64_t first = element - first_element;
  return {first, clamp_count(-first, N), clamp_count(count - first, N)};
}

// The Box-Muller pair of ops/elementwise.h's words.
__device__ __forceinline__ void normal_numbers(uint32_t a, uint32_t b, float& x, float& y) {
  const double u = (double(a) + 1.0) * (1.0 / 4294967296.0);
  const double radius = sqrt(-2.0 * log(u));
  double sine, cosine;
  sin_cos_of_turns(double(b) * (1.0 / 4294967296.0), &sine, &cosine);
  x = float(radius * cosine);
  y = float(radius * sine);
}

__global__ void __launch_bounds__(kThreads)
    fill_normal_kernel(float* x, int64_t count, uint64_t key, int64_t first_element, float mean,
                       float std, bool aligned) {
  const int64_t first_quad = first_element / 4,
                quads = (first_element + count + 3) / 4 - first_quad;
  for (int64_t q = int64_t(blockIdx.x) * kThreads + thread_index(); q < quads;
       q += int64_t(gridDim.x) * kThreads) {
    const Philox4 word = philox(key, uint64_t(first_quad + q), 0);
    float values[4];
    normal_numbers(word.v[0], word.v[1], values[0], values[1]);
    normal_numbers(word.v[2], word.v[3], values[2], values[3]);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = mean + std * values[i];
    const GroupRange r = range_of<4>(4 * (first_quad + q), first_element, count);
    if (aligned && r.hi == 4) {
      store_pack(x + r.first, values);
      continue;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i >= r.lo && i < r.hi) x[r.first + i] = values[i];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const T* x, T* y, int64_t count, float probability, uint64_t key,
                   int64_t first_element, bool aligned) {
  constexpr int N = kPack<T>;
  const float factor = 1.0f / (1.0f - probability);
  const int64_t first_group = first_element / N;
  const int64_t groups = (first_element + count + N - 1) / N - first_group;
  for (int64_t g = int64_t(blockIdx.x) * kThreads + thread_index(); g < groups;
       g += int64_t(gridDim.x) * kThreads) {
    const int64_t element = (first_group + g) * N;
    const GroupRange r = range_of<N>(element, first_element, count);
    const bool whole = aligned && r.hi == N;
    float values[N];
    if (whole) {
      load_pack(x + r.first, values);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i)
        values[i] = i >= r.lo && i < r.hi ? to_float(x[r.first + i]) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const Philox4 word = philox(key, uint64_t(element + i) / 4, 0);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        values[i + j] = uniform_float(word.v[j]) >= probability ? values[i + j] * factor : 0.0f;
    }
    if (whole) {
      store_pack(y + r.first, values);
      continue;
    }
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i >= r.lo && i < r.hi) y[r.first + i] = from_float<T>(values[i]);
  }
}

// Of a part whose rows are apart in the full tensor: every element makes its own word.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_part_kernel(const T* x, T* y, int64_t count, float probability, uint64_t key,
                        ElementMap elements) {
  const float factor = 1.0f / (1.0f - probability);
  for (int64_t i = int64_t(blockIdx.x) * kThreads + thread_index(); i < count;
       i += int64_t(gridDim.x) * kThreads) {
    const int64_t element = elements.full(i);
    const Philox4 four = philox(key, uint64_t(element) / 4, 0);
    uint32_t word = four.v[0];
#pragma unroll
    for (int j = 1; j < 4; ++j)
      if (element % 4 == j) word = four.v[j];
    y[i] = from_float<T>(uniform_float(word) >= probability ? to_float(x[i]) * factor : 0.0f);
  }
}

LaunchShape shape_of(const char* name, int64_t count, int group) {
  // One more than the count needs: the first group may begin before the tensor.
  const int64_t groups = count == 0 ? 0 : ceil_div<int64_t>(count, group) + 1;
  const int64_t blocks = ceil_div<int64_t>(groups, kThreads);
  return {name, unsigned(std::min<int64_t>(blocks, 16 * num_multiprocessors())), kThreads};
}

}  // namespace

void fill_normal(float* x, int64_t count, uint64_t key, int64_t first_element, float mean,
                 float std, KernelStream stream) {
  launch(shape_of("fill_normal", count, 4), stream, fill_normal_kernel, x, count, key,
         first_element, mean, std, all_aligned16(x) && first_element % 4 == 0);
}

void dropout(const void* x, void* y, DType dtype, int64_t count, float probability, uint64_t key,
             const ElementMap& elements, KernelStream stream) {
  dispatch_float(dtype, [&]<class T>() {
    if (elements.columns > 0) {
      launch(shape_of("dropout_part", count, 1), stream, dropout_part_kernel<T>,
             static_cast<const T*>(x), static_cast<T*>(y), count, probability, key, elements);
      return;
    }
    constexpr int N = kPack<T>;
    const int64_t first_element = elements.first;
    launch(shape_of("dropout", count, N), stream, dropout_kernel<T>, static_cast<const T*>(x),
           static_cast<T*>(y), count, probability, key, first_element,
           all_aligned16(x, y) && first_element % N == 0);
  });
}

}  // namespace forja::kernels
