// SPDX-License-Identifier: Apache-2.0
// Backward attention for any GPU with mma.sync (sm_80). Source: Dao, "FlashAttention-2", 2023,
// section 3.2. With S the scores in base 2 and L the row's log-sum-exp:
//   P = 2^(S - L),  dP = dO V^T,  dS = P (dP - delta),  delta = rowsum(dO O),
//   dV = P^T dO,  dK = scale dS^T Q,  dQ = scale dS K.
// Three kernels: delta and L of every row (here), dK and dV by tiles of keys (backward_keys.cu), dQ
// by tiles of queries (backward_queries.cu).
//
// The two halves each compute S and dP: seven matrix products instead of the five of one kernel
// that adds its share of dQ to memory. In exchange every sum stays in registers in a fixed order:
// the result is deterministic without atomics, semaphores or a copy of dQ in fp32.
//
// This kernel: eight lanes a row and head. Bound by memory: out and dout are read once.
#include "kernels/attention/backward.h"

#include <cmath>

#include "kernels/attention/hopper.h"
#include "kernels/attention/rows.cuh"
#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

constexpr float kLog2e = 1.44269504f;
constexpr int kThreads = 256, kLanes = 8, kRows = kThreads / kLanes;

// The lane's share of the dot product of two rows.
template <class T>
__device__ __forceinline__ float dot_share(const T* x, const T* y, int dim, bool packed) {
  const int lane = lane_index() % kLanes;
  float sum = 0.0f;
  if (packed) {
    for (int i = lane * kPack<T>; i < dim; i += kLanes * kPack<T>) {
      float a[kPack<T>], b[kPack<T>];
      load_pack(x + i, a);
      load_pack(y + i, b);
#pragma unroll
      for (int e = 0; e < kPack<T>; ++e) sum += a[e] * b[e];
    }
    return sum;
  }
  for (int i = lane; i < dim; i += kLanes) sum += to_float(x[i]) * to_float(y[i]);
  return sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(const __grid_constant__ AttentionBackward a, bool packed) {
  const AttentionProblem& p = a.problem;
  const int64_t at = int64_t(blockIdx.x) * kRows + thread_index() / kLanes;
  const bool exists = at < int64_t(p.num_queries) * p.num_heads;
  const int row = exists ? int(at / p.num_heads) : 0, head = exists ? int(at % p.num_heads) : 0;
  const HeadRows<T> out(a.out, row, head, p.head_size, packed);
  const HeadRows<T> dout(a.dout, row, head, p.head_size, packed);
  const float sum = dot_share(out.data, dout.data, p.head_size, packed);
  const float delta = warp_reduce<Sum, kLanes>(sum);
  if (!exists || lane_index() % kLanes != 0) return;
  // A row without keys gets probabilities of 2^-inf.
  const float lse = a.lse[head * a.lse_stride + row];
  a.statistics[int64_t(head) * p.num_queries + row] = {lse == -INFINITY ? INFINITY : lse * kLog2e,
                                                       delta};
}

template <class T>
void run_statistics(const AttentionBackward& a, KernelStream stream) {
  const AttentionProblem& p = a.problem;
  const int64_t blocks = ceil_div<int64_t>(int64_t(p.num_queries) * p.num_heads, kRows);
  launch({"attention_statistics", unsigned(blocks), kThreads}, stream, statistics_kernel<T>, a,
         all_packed<T>(p.head_size, a.out, a.dout));
}

}  // namespace

void attention_backward(const AttentionBackward& a, KernelStream stream) {
  a.problem.dtype == DType::f32 ? run_statistics<float>(a, stream)
                                : run_statistics<BFloat16>(a, stream);
  if (hopper_takes(a)) {
    attention_backward_keys_hopper(a, stream);
    attention_backward_queries_hopper(a, stream);
  } else {
    attention_backward_keys(a, stream);
    attention_backward_queries(a, stream);
  }
}

}  // namespace forja::kernels
