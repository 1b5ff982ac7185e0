// SPDX-License-Identifier: Apache-2.0
// With xhat = (x - mean) rstd and g = dy weight:
//   dx = rstd (g - mean(g) - xhat mean(g xhat)) + residual gradient, without mean(g) for RMS norms;
//   weight gradient = sum over the rows of dy xhat, bias gradient = sum of dy.
// A block takes the rows b, b + blocks, ...: dy, x and the residual gradient go to registers once,
// as the dtype's bits (norm.cuh), and the sums of the columns stay in registers until the block
// ends and writes them as one row of partial sums. The next pass (column_sums.cu) adds those in
// order: the result depends on the shape and the GPU's number of multiprocessors alone.
// Bound by memory: the floor is the bytes of dy, x, dx and the residual gradient over the
// bandwidth.
#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/launch.h"
#include "kernels/norm/norm.cuh"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;  // of a block with several rows

struct Aligned {
  bool rows, weight;
};

// What a thread knows of its row.
struct RowFactors {
  float mean, rstd;
  float mean_g, mean_g_xhat;
};

// The sums of g and of g xhat over one group.
template <NormKind kKind, int N>
__device__ __forceinline__ void add_products(const float (&dy)[N], const float (&x)[N],
                                             const float (&weight)[N], const RowFactors& f,
                                             float& sum, float& dot) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float g = dy[i] * weight[i];
    const float centred = kKind == NormKind::layer ? x[i] - f.mean : x[i];
    dot += g * (centred * f.rstd);
    if (kKind == NormKind::layer) sum += g;
  }
}

// dx of one group, in place of weight; xhat in place of x.
template <NormKind kKind, int N>
__device__ __forceinline__ void input_gradient(const float (&dy)[N], float (&x)[N],
                                               float (&weight)[N], const RowFactors& f) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    x[i] = (kKind == NormKind::layer ? x[i] - f.mean : x[i]) * f.rstd;
    float g = dy[i] * weight[i];
    if (kKind == NormKind::layer) g -= f.mean_g;
    weight[i] = (g - x[i] * f.mean_g_xhat) * f.rstd;
  }
}

// The sums of a warp's columns on their way to the block's.
template <int kColumns>
struct ColumnSums {
  SharedArray<float, kColumns> value;
};

// One row of partial sums from those of the block's threads. A block with one row has no others;
// otherwise its warps add theirs in order.
template <class T, int kWidth, int kGroups>
__device__ __forceinline__ void write_partial(float* partial, int64_t columns,
                                              float (&sums)[kGroups][kPack<T>]) {
  constexpr int N = kPack<T>;
  const RowPart<T, kWidth> part(columns);
  float* out = partial + int64_t(blockIdx.x) * columns;
  if constexpr (kWidth == 0) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
      store_elements(out + part.first(g), part.count(g), columns % 4 == 0, sums[g]);
  } else {
    if constexpr (kWidth < kWarp) {
#pragma unroll
      for (int i = 0; i < N; ++i) sums[0][i] += shuffle_xor(sums[0][i], kWidth);
    }
    auto& shared = shared_storage<ColumnSums<kWidth * kGroups * N>>().value;
    for (int warp = 0; warp < kThreads / kWarp; ++warp) {
      if (warp == warp_index() && lane_index() < kWidth) {
#pragma unroll
        for (int g = 0; g < kGroups; ++g)
#pragma unroll
          for (int i = 0; i < N; ++i) {
            float& sum = shared[int(part.first(g)) + i];
            sum = warp == 0 ? sums[g][i] : sum + sums[g][i];
          }
      }
      sync_block();
    }
    for (int c = thread_index(); c < columns; c += kThreads) out[c] = shared[c];
    sync_block();
  }
}

template <class T, NormKind kKind, int kWidth, int kGroups, int kMaxThreads, int kMinBlocks>
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks)
    norm_backward_kernel(NormBackward a, Aligned aligned) {
  constexpr int N = kPack<T>;
  constexpr int kRows = kWidth > 0 ? kThreads / (kWidth > 0 ? kWidth : 1) : 1;  // at a time
  const int first_row = kWidth > 0 ? thread_index() / (kWidth > 0 ? kWidth : 1) : 0;
  float weight_sum[kGroups][N], bias_sum[kGroups][N];
#pragma unroll
  for (int g = 0; g < kGroups; ++g)
#pragma unroll
    for (int i = 0; i < N; ++i) weight_sum[g][i] = bias_sum[g][i] = 0.0f;

  for (int64_t base = int64_t(blockIdx.x) * kRows; base < a.rows;
       base += int64_t(gridDim.x) * kRows) {
    const bool valid = base + first_row < a.rows;
    const int64_t row = valid ? base + first_row : a.rows - 1;
    const RowPart<T, kWidth> part(valid ? a.columns : 0);
    const T *dy = a.dy.row<T>(row), *x = a.x.row<T>(row);
    Bits16 dy_bits[kGroups], x_bits[kGroups], residual_bits[kGroups];
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      dy_bits[g] = load_group(dy + part.first(g), part.count(g), aligned.rows);
      x_bits[g] = load_group(x + part.first(g), part.count(g), aligned.rows);
    }
    if (a.residual.data) {
      const T* residual = a.residual.row<T>(row);
#pragma unroll
      for (int g = 0; g < kGroups; ++g)
        residual_bits[g] = load_group(residual + part.first(g), part.count(g), aligned.rows);
    }
    RowFactors f{kKind == NormKind::layer ? a.mean[row] : 0.0f, a.rstd[row], 0.0f, 0.0f};
    float sum = 0.0f, dot = 0.0f;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      float d[N], v[N], w[N];
      load_parameter<T>(a.weight.data, a.weight.is_fp32, part.first(g), part.count(g),
                        aligned.weight, w);
      unpack<T>(dy_bits[g], d);
      unpack<T>(x_bits[g], v);
      add_products<kKind>(d, v, w, f, sum, dot);
    }
    // Two scratches in turn: a warp that is ahead never writes the one that another reads.
    if (kKind == NormKind::layer) f.mean_g = sum_of_row<kWidth>(sum, 0) / float(a.columns);
    const int turn = kKind == NormKind::layer ? 1 : int((base / gridDim.x) % 2);
    f.mean_g_xhat = sum_of_row<kWidth>(dot, turn) / float(a.columns);

    T* dx = a.dx.row<T>(row);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      float d[N], v[N], w[N];
      load_parameter<T>(a.weight.data, a.weight.is_fp32, part.first(g), part.count(g),
                        aligned.weight, w);
      unpack<T>(dy_bits[g], d);
      unpack<T>(x_bits[g], v);
      input_gradient<kKind>(d, v, w, f);
      if (a.residual.data) {
        float residual[N];
        unpack<T>(residual_bits[g], residual);
#pragma unroll
        for (int i = 0; i < N; ++i) w[i] += residual[i];
      }
      store_elements(dx + part.first(g), part.count(g), aligned.rows, w);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        weight_sum[g][i] += d[i] * v[i];
        if (kKind == NormKind::layer) bias_sum[g][i] += d[i];
      }
    }
  }
  if (a.weight_partial) write_partial<T, kWidth>(a.weight_partial, a.columns, weight_sum);
  if (kKind == NormKind::layer && a.bias_partial)
    write_partial<T, kWidth>(a.bias_partial, a.columns, bias_sum);
}

// Rows of any length, read in each pass; the partial sums are in memory.
template <class T, NormKind kKind>
__global__ void __launch_bounds__(1024) long_norm_backward_kernel(NormBackward a, Aligned aligned) {
  constexpr int N = kPack<T>;
  const RowPart<T, 0> part(a.columns);
  const int groups = int(ceil_div<int64_t>(a.columns, int64_t(part.threads) * N));
  float* weight_sum =
      a.weight_partial ? a.weight_partial + int64_t(blockIdx.x) * a.columns : nullptr;
  float* bias_sum = a.bias_partial ? a.bias_partial + int64_t(blockIdx.x) * a.columns : nullptr;
  for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const T *dy = a.dy.row<T>(row), *x = a.x.row<T>(row);
    const T* residual = a.residual.data ? a.residual.row<T>(row) : nullptr;
    T* dx = a.dx.row<T>(row);
    RowFactors f{kKind == NormKind::layer ? a.mean[row] : 0.0f, a.rstd[row], 0.0f, 0.0f};
    float sum = 0.0f, dot = 0.0f, d[N], v[N], w[N];
    for (int g = 0; g < groups; ++g) {
      const int64_t first = part.first(g);
      const int count = part.count(g);
      load_elements(dy + first, count, aligned.rows, d);
      load_elements(x + first, count, aligned.rows, v);
      load_parameter<T>(a.weight.data, a.weight.is_fp32, first, count, aligned.weight, w);
      add_products<kKind>(d, v, w, f, sum, dot);
    }
    f.mean_g = sum_of_row<0>(sum, 0) / float(a.columns);
    f.mean_g_xhat = sum_of_row<0>(dot, 1) / float(a.columns);
    for (int g = 0; g < groups; ++g) {
      const int64_t first = part.first(g);
      const int count = part.count(g);
      load_elements(dy + first, count, aligned.rows, d);
      load_elements(x + first, count, aligned.rows, v);
      load_parameter<T>(a.weight.data, a.weight.is_fp32, first, count, aligned.weight, w);
      input_gradient<kKind>(d, v, w, f);
      if (residual) {
        float r[N];
        load_elements(residual + first, count, aligned.rows, r);
#pragma unroll
        for (int i = 0; i < N; ++i) w[i] += r[i];
      }
      store_elements(dx + first, count, aligned.rows, w);
      const bool begins = row == int64_t(blockIdx.x);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        if (i >= count) continue;
        if (weight_sum)
          weight_sum[first + i] = (begins ? 0.0f : weight_sum[first + i]) + d[i] * v[i];
        if (bias_sum) bias_sum[first + i] = (begins ? 0.0f : bias_sum[first + i]) + d[i];
      }
    }
  }
}

template <class T, NormKind kKind>
int64_t launch_backward(const NormBackward& a, KernelStream stream) {
  const Rows* rows[] = {&a.dy, &a.x, &a.residual, &a.dx};
  Aligned aligned{true, all_aligned16(a.weight.data)};
  for (const Rows* r : rows) aligned.rows = aligned.rows && r->aligned(kPack<T>);
  const int64_t groups = ceil_div<int64_t>(a.columns, kPack<T>);
  const auto start = [&](auto* kernel, int threads, int64_t rows_per_block, int blocks_resident,
                         int64_t shared) {
    const int64_t blocks =
        std::min({norm_partial_rows(a.rows, a.columns), ceil_div(a.rows, rows_per_block),
                  int64_t(blocks_resident) * num_multiprocessors()});
    launch({"norm_backward", unsigned(blocks), unsigned(threads), shared}, stream, kernel, a,
           aligned);
    return blocks;
  };
  // A layer norm has twice the sums in registers.
  constexpr int kShort = kKind == NormKind::rms ? 4 : 3;  // blocks on a multiprocessor
  constexpr int64_t kShared = kNormSharedBytes<0>, kBytes = 16 * kPack<T> * 4;
  const int threads = int(ceil_div<int64_t>(groups, 2 * kWarp)) * kWarp;
  if (groups <= 16)
    return start(norm_backward_kernel<T, kKind, 16, 1, kThreads, kShort>, kThreads, kThreads / 16,
                 kShort, kBytes);
  if (groups <= 32)
    return start(norm_backward_kernel<T, kKind, 32, 1, kThreads, kShort>, kThreads, kThreads / 32,
                 kShort, 2 * kBytes);
  if (groups <= 128)
    return start(norm_backward_kernel<T, kKind, 32, 4, kThreads, 1>, kThreads, kThreads / 32, 1,
                 8 * kBytes);
  if (groups <= 512)
    return start(norm_backward_kernel<T, kKind, 0, 2, 256, 2>, threads, 1, 2, kShared);
  if (groups <= 1024)
    return start(norm_backward_kernel<T, kKind, 0, 2, 512, 1>, threads, 1, 1, kShared);
  return start(long_norm_backward_kernel<T, kKind>, 1024, 1, 2, kShared);
}

}  // namespace

int64_t norm_backward(const NormBackward& a, KernelStream stream) {
  return dispatch_float(a.dtype, [&]<class T>() {
    if (a.kind == NormKind::rms) return launch_backward<T, NormKind::rms>(a, stream);
    return launch_backward<T, NormKind::layer>(a, stream);
  });
}

}  // namespace forja::kernels
