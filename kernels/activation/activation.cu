// SPDX-License-Identifier: Apache-2.0
// A thread has one group of 16 bytes of one row (rows.h): it loads the group of every input,
// computes in fp32 and stores. Bound by memory: the floor is the bytes of all tensors over the
// bandwidth. That leaves about 25 instructions an element in bf16, so the functions are made of the
// hardware's exponential and reciprocal.
#include "kernels/activation/activation.h"

#include "forja/base/dispatch.h"
#include "kernels/activation/activation.cuh"
#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

template <Gelu kKind>
__device__ __forceinline__ float gelu(float x) {
  return kKind == Gelu::erf ? gelu_erf(x) : gelu_tanh(x);
}

template <Gelu kKind>
__device__ __forceinline__ float gelu_derivative(float x) {
  if constexpr (kKind == Gelu::erf)  // Phi(x) + x phi(x)
    return x * (0.398942280f * fast_exp(-0.5f * x * x)) + normal_cdf(x);
  const float s = sigmoid(x * (0.0713548163f * x * x + 1.59576912f));
  return x * (s * (1.0f - s) * (0.214064449f * x * x + 1.59576912f)) + s;
}

struct Extent {
  RowGrid grid;
  int64_t rows, columns;
  bool aligned;
};

// Calls body(row, first column, elements) for the group of this thread.
template <int N, class Body>
__device__ __forceinline__ void for_group(const Extent& e, const Body& body) {
  const RowPlace place(e.grid, blockIdx.x, thread_index());
  const int count = clamp_count(e.columns - place.group * N, N);
  if (place.row < e.rows && count > 0) body(place.row, place.group * N, count);
}

template <class T, Gelu kKind>
__global__ void __launch_bounds__(RowGrid::kThreads) gelu_forward_kernel(Rows x, Rows y, Extent e) {
  constexpr int N = kPack<T>;
  for_group<N>(e, [&](int64_t row, int64_t first, int count) {
    float values[N];
    load_elements(x.row<T>(row) + first, count, e.aligned, values);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = gelu<kKind>(values[i]);
    store_elements(y.row<T>(row) + first, count, e.aligned, values);
  });
}

template <class T, Gelu kKind>
__global__ void __launch_bounds__(RowGrid::kThreads)
    gelu_backward_kernel(Rows dy, Rows x, Rows dx, Extent e) {
  constexpr int N = kPack<T>;
  for_group<N>(e, [&](int64_t row, int64_t first, int count) {
    float d[N], values[N];
    load_elements(dy.row<T>(row) + first, count, e.aligned, d);
    load_elements(x.row<T>(row) + first, count, e.aligned, values);
#pragma unroll
    for (int i = 0; i < N; ++i) d[i] *= gelu_derivative<kKind>(values[i]);
    store_elements(dx.row<T>(row) + first, count, e.aligned, d);
  });
}

template <class T>
__global__ void __launch_bounds__(RowGrid::kThreads)
    swiglu_forward_kernel(Rows gate_up, Rows y, Extent e) {
  constexpr int N = kPack<T>;
  for_group<N>(e, [&](int64_t row, int64_t first, int count) {
    const T* from = gate_up.row<T>(row) + first;
    float gate[N], up[N];
    load_elements(from, count, e.aligned, gate);
    load_elements(from + e.columns, count, e.aligned, up);
#pragma unroll
    for (int i = 0; i < N; ++i) up[i] = swiglu(gate[i], up[i]);
    store_elements(y.row<T>(row) + first, count, e.aligned, up);
  });
}

// With s = sigmoid(gate): d gate = dy up silu'(gate), silu' = s + gate s (1 - s); d up = dy gate s.
template <class T>
__global__ void __launch_bounds__(RowGrid::kThreads)
    swiglu_backward_kernel(Rows dy, Rows gate_up, Rows dgate_up, Extent e) {
  constexpr int N = kPack<T>;
  for_group<N>(e, [&](int64_t row, int64_t first, int count) {
    const T* from = gate_up.row<T>(row) + first;
    float d[N], gate[N], up[N];
    load_elements(dy.row<T>(row) + first, count, e.aligned, d);
    load_elements(from, count, e.aligned, gate);
    load_elements(from + e.columns, count, e.aligned, up);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float s = sigmoid(gate[i]), silu = gate[i] * s;
      gate[i] = d[i] * up[i] * (silu * (1.0f - s) + s);
      up[i] = d[i] * silu;
    }
    T* to = dgate_up.row<T>(row) + first;
    store_elements(to, count, e.aligned, gate);
    store_elements(to + e.columns, count, e.aligned, up);
  });
}

template <class T>
Extent extent_of(int64_t rows, int64_t columns, bool aligned) {
  return {RowGrid(rows, columns, kPack<T>), rows, columns, aligned};
}

LaunchShape shape_of(const char* name, const Extent& e) {
  return {name, unsigned(e.grid.blocks), RowGrid::kThreads};
}

template <class F>
void dispatch_gelu(Gelu kind, DType dtype, const F& f) {
  dispatch_float(dtype, [&]<class T>() {
    if (kind == Gelu::tanh) return f.template operator()<T, Gelu::tanh>();
    f.template operator()<T, Gelu::erf>();
  });
}

}  // namespace

void gelu_forward(Gelu kind, const Rows& x, const Rows& y, DType dtype, int64_t rows,
                  int64_t columns, KernelStream stream) {
  dispatch_gelu(kind, dtype, [&]<class T, Gelu kKind>() {
    const bool aligned = x.aligned(kPack<T>) && y.aligned(kPack<T>);
    const Extent e = extent_of<T>(rows, columns, aligned);
    launch(shape_of("gelu_forward", e), stream, gelu_forward_kernel<T, kKind>, x, y, e);
  });
}

void gelu_backward(Gelu kind, const Rows& dy, const Rows& x, const Rows& dx, DType dtype,
                   int64_t rows, int64_t columns, KernelStream stream) {
  dispatch_gelu(kind, dtype, [&]<class T, Gelu kKind>() {
    constexpr int N = kPack<T>;
    const bool aligned = dy.aligned(N) && x.aligned(N) && dx.aligned(N);
    const Extent e = extent_of<T>(rows, columns, aligned);
    launch(shape_of("gelu_backward", e), stream, gelu_backward_kernel<T, kKind>, dy, x, dx, e);
  });
}

void swiglu_forward(const Rows& gate_up, const Rows& y, DType dtype, int64_t rows, int64_t columns,
                    KernelStream stream) {
  dispatch_float(dtype, [&]<class T>() {
    constexpr int N = kPack<T>;
    const bool aligned = gate_up.aligned(N) && y.aligned(N) && columns % N == 0;
    const Extent e = extent_of<T>(rows, columns, aligned);
    launch(shape_of("swiglu_forward", e), stream, swiglu_forward_kernel<T>, gate_up, y, e);
  });
}

void swiglu_backward(const Rows& dy, const Rows& gate_up, const Rows& dgate_up, DType dtype,
                     int64_t rows, int64_t columns, KernelStream stream) {
  dispatch_float(dtype, [&]<class T>() {
    constexpr int N = kPack<T>;
    const bool aligned =
        dy.aligned(N) && gate_up.aligned(N) && dgate_up.aligned(N) && columns % N == 0;
    const Extent e = extent_of<T>(rows, columns, aligned);
    launch(shape_of("swiglu_backward", e), stream, swiglu_backward_kernel<T>, dy, gate_up, dgate_up,
           e);
  });
}

}  // namespace forja::kernels
