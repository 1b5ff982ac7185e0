// SPDX-License-Identifier: Apache-2.0
// y = (x - mean) rstd weight + bias, of rows in registers (norm.cuh): read the row (and add the
// residual), sum, sum the squares (of a layer norm, of the deviations from the mean), write.
// Bound by memory: the floor is the bytes of x and y, with a residual also of it and the sum, over
// the bandwidth. Weights are read by every row, and stay in the caches.
#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/launch.h"
#include "kernels/norm/norm.cuh"

namespace forja::kernels {
namespace {

constexpr int kThreads = 128;  // of a block with several rows

struct Aligned {
  bool rows, parameters;
};

// normalised weight + bias of one group, into values.
template <class T, NormKind kKind, int N>
__device__ __forceinline__ void normalise(const NormForward& a, int64_t first, int count,
                                          bool aligned, float mean, float rstd,
                                          float (&values)[N]) {
  float weight[N];
  load_parameter<T>(a.weight.data, a.weight.is_fp32, first, count, aligned, weight);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float centred = kKind == NormKind::layer ? values[i] - mean : values[i];
    values[i] = centred * rstd * weight[i];
  }
  if (kKind == NormKind::layer && a.bias.data) {
    float bias[N];
    load_parameter<T>(a.bias.data, a.bias.is_fp32, first, count, aligned, bias);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] += bias[i];
  }
}

template <class T>
__device__ __forceinline__ Bits16 add_bits(const Bits16& a, const Bits16& b) {
  float x[kPack<T>], y[kPack<T>];
  unpack<T>(a, x);
  unpack<T>(b, y);
#pragma unroll
  for (int i = 0; i < kPack<T>; ++i) x[i] += y[i];
  return pack<T>(x);
}

template <NormKind kKind>
__device__ __forceinline__ void keep_statistics(const NormForward& a, int64_t row, float mean,
                                                float rstd) {
  a.rstd[row] = rstd;
  if (kKind == NormKind::layer) a.mean[row] = mean;
}

template <class T, NormKind kKind, int kWidth, int kGroups, int kMaxThreads>
__global__ void __launch_bounds__(kMaxThreads) norm_forward_kernel(NormForward a, Aligned aligned) {
  constexpr int N = kPack<T>;
  const int64_t wanted = kWidth > 0 ? int64_t(blockIdx.x) * (kThreads / (kWidth > 0 ? kWidth : 1)) +
                                          thread_index() / (kWidth > 0 ? kWidth : 1)
                                    : int64_t(blockIdx.x);
  const bool valid = wanted < a.rows;
  const int64_t row = valid ? wanted : a.rows - 1;
  const RowPart<T, kWidth> part(valid ? a.columns : 0);
  const T* x = a.x.row<T>(row);
  // In the dtype of the row, which is exact, for fewer registers.
  Bits16 kept[kGroups];
#pragma unroll
  for (int g = 0; g < kGroups; ++g)
    kept[g] = load_group(x + part.first(g), part.count(g), aligned.rows);
  if (a.residual.data) {
    const T* residual = a.residual.row<T>(row);
    T* sum = a.sum.row<T>(row);
    Bits16 other[kGroups];
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
      other[g] = load_group(residual + part.first(g), part.count(g), aligned.rows);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      kept[g] = add_bits<T>(kept[g], other[g]);
      store_group(sum + part.first(g), part.count(g), aligned.rows, kept[g]);
    }
  }

  float mean = 0.0f;
  if constexpr (kKind == NormKind::layer) {
    float sum = 0.0f;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      float values[N];
      unpack<T>(kept[g], values);
#pragma unroll
      for (int i = 0; i < N; ++i) sum += values[i];
    }
    mean = sum_of_row<kWidth>(sum, 0) / float(a.columns);
  }
  float squares = 0.0f;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int count = part.count(g);
    float values[N];
    unpack<T>(kept[g], values);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float deviation = i < count ? values[i] - mean : 0.0f;
      squares += deviation * deviation;
    }
  }
  const float rstd = inverse_sqrt(sum_of_row<kWidth>(squares, 1) / float(a.columns) + a.eps);
  if (valid && part.thread == 0) keep_statistics<kKind>(a, row, mean, rstd);

  T* y = a.y.row<T>(row);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int count = part.count(g);
    float values[N];
    unpack<T>(kept[g], values);
    normalise<T, kKind>(a, part.first(g), count, aligned.rows && aligned.parameters, mean, rstd,
                        values);
    store_elements(y + part.first(g), count, aligned.rows, values);
  }
}

// A row of any length by a block of 1024 threads, read in each pass.
template <class T, NormKind kKind>
__global__ void __launch_bounds__(1024) long_norm_forward_kernel(NormForward a, Aligned aligned) {
  constexpr int N = kPack<T>;
  const int64_t row = blockIdx.x;
  const RowPart<T, 0> part(a.columns);
  const int groups = int(ceil_div<int64_t>(a.columns, int64_t(part.threads) * N));
  T* x = a.x.row<T>(row);
  float values[N];
  float sum = 0.0f, squares = 0.0f, mean = 0.0f;
  if (a.residual.data) {
    const T *from = x, *residual = a.residual.row<T>(row);
    x = a.sum.row<T>(row);
    for (int g = 0; g < groups; ++g) {
      const int64_t first = part.first(g);
      const int count = part.count(g);
      float other[N];
      load_elements(from + first, count, aligned.rows, values);
      load_elements(residual + first, count, aligned.rows, other);
#pragma unroll
      for (int i = 0; i < N; ++i) values[i] += other[i];
      store_elements(x + first, count, aligned.rows, values);
    }
  }
  if constexpr (kKind == NormKind::layer) {
    for (int g = 0; g < groups; ++g) {
      load_elements(x + part.first(g), part.count(g), aligned.rows, values);
#pragma unroll
      for (int i = 0; i < N; ++i) sum += values[i];
    }
    mean = sum_of_row<0>(sum, 0) / float(a.columns);
  }
  for (int g = 0; g < groups; ++g) {
    const int count = part.count(g);
    load_elements(x + part.first(g), count, aligned.rows, values);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float deviation = i < count ? values[i] - mean : 0.0f;
      squares += deviation * deviation;
    }
  }
  const float rstd = inverse_sqrt(sum_of_row<0>(squares, 1) / float(a.columns) + a.eps);
  if (part.thread == 0) keep_statistics<kKind>(a, row, mean, rstd);
  T* y = a.y.row<T>(row);
  for (int g = 0; g < groups; ++g) {
    const int64_t first = part.first(g);
    const int count = part.count(g);
    load_elements(x + first, count, aligned.rows, values);
    normalise<T, kKind>(a, first, count, aligned.rows && aligned.parameters, mean, rstd, values);
    store_elements(y + first, count, aligned.rows, values);
  }
}

template <class T, NormKind kKind>
void launch_forward(const NormForward& a, KernelStream stream) {
  const Rows* rows[] = {&a.x, &a.residual, &a.sum, &a.y};
  Aligned aligned{true, all_aligned16(a.weight.data, a.bias.data)};
  for (const Rows* r : rows) aligned.rows = aligned.rows && r->aligned(kPack<T>);
  const int64_t groups = ceil_div<int64_t>(a.columns, kPack<T>);
  const auto start = [&](auto* kernel, int threads, int64_t rows_per_block, int64_t shared) {
    launch({"norm_forward", unsigned(ceil_div(a.rows, rows_per_block)), unsigned(threads), shared},
           stream, kernel, a, aligned);
  };
  const auto threads_for = [&](int kept) {
    return int(ceil_div<int64_t>(groups, kept * kWarp)) * kWarp;
  };
  constexpr int64_t kShared = kNormSharedBytes<0>;
  if (groups <= 16)
    return start(norm_forward_kernel<T, kKind, 16, 1, kThreads>, kThreads, kThreads / 16, 0);
  if (groups <= 32)
    return start(norm_forward_kernel<T, kKind, 32, 1, kThreads>, kThreads, kThreads / 32, 0);
  if (groups <= 128)
    return start(norm_forward_kernel<T, kKind, 32, 4, kThreads>, kThreads, kThreads / 32, 0);
  if (groups <= 512)
    return start(norm_forward_kernel<T, kKind, 0, 2, 256>, threads_for(2), 1, kShared);
  if (groups <= 2048)
    return start(norm_forward_kernel<T, kKind, 0, 4, 512>, threads_for(4), 1, kShared);
  start(long_norm_forward_kernel<T, kKind>, 1024, 1, kShared);
}

}  // namespace

void norm_forward(const NormForward& a, KernelStream stream) {
  dispatch_float(a.dtype, [&]<class T>() {
    if (a.kind == NormKind::rms) return launch_forward<T, NormKind::rms>(a, stream);
    launch_forward<T, NormKind::layer>(a, stream);
  });
}

}  // namespace forja::kernels
