// SPDX-License-Identifier: Apache-2.0
// (a, b) -> (a cos - b sin, b cos + a sin) for the pairs (i, i + half). A thread has one group of
// pairs, 16 bytes of either half, and goes through the token's heads with it: it reads the angles
// once. A block has one token, or several where a token has few groups.
// Bound by memory: the floor is twice the bytes of x over the bandwidth; the tables of a position
// are read once a token, and mostly from the caches.
#include "kernels/rope/rope.h"

#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;

struct Layout {
  int log_groups;   // threads side by side on the groups of a head
  int log_threads;  // of a token
  bool aligned_x, aligned_tables;
};

template <class T>
__global__ void __launch_bounds__(kThreads) rope_kernel(RopeArguments a, Layout l) {
  constexpr int N = kPack<T>;
  const int64_t token =
      int64_t(blockIdx.x) * (kThreads >> l.log_threads) + (thread_index() >> l.log_threads);
  if (token >= a.tokens) return;
  const int thread = thread_index() & ((1 << l.log_threads) - 1);
  const int first_head = thread >> l.log_groups;
  const int step = 1 << (l.log_threads - l.log_groups);
  const int64_t position = a.positions[token];
  const bool known = position >= 0 && position < a.num_positions;
  for (int first = (thread & ((1 << l.log_groups) - 1)) * N; first < a.half;
       first += N << l.log_groups) {
    const int count = clamp_count(a.half - first, N);
    float cosine[N], sine[N];
    if (known) {
      load_elements(a.cos + position * a.cos_stride + first, count, l.aligned_tables, cosine);
      load_elements(a.sin + position * a.sin_stride + first, count, l.aligned_tables, sine);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (!known) cosine[i] = sine[i] = NAN;
      if (a.backward) sine[i] = -sine[i];
    }
    T* head = static_cast<T*>(a.x) + token * a.token_stride + first_head * a.head_stride + first;
    for (int h = first_head; h < a.heads; h += step, head += step * a.head_stride) {
      float x[N], y[N];
      load_elements(head, count, l.aligned_x, x);
      load_elements(head + a.half, count, l.aligned_x, y);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float rotated = x[i] * cosine[i] - y[i] * sine[i];
        y[i] = y[i] * cosine[i] + x[i] * sine[i];
        x[i] = rotated;
      }
      store_elements(head, count, l.aligned_x, x);
      store_elements(head + a.half, count, l.aligned_x, y);
    }
  }
}

int log2_of_at_least(int64_t n, int limit) {
  int log = 0;
  while (log < limit && (int64_t(1) << log) < n) ++log;
  return log;
}

}  // namespace

void rope(const RopeArguments& a, KernelStream stream) {
  dispatch_float(a.dtype, [&]<class T>() {
    constexpr int N = kPack<T>;
    Layout l;
    l.log_groups = log2_of_at_least(ceil_div(a.half, N), 8);
    // About two heads a thread, for their angles and more loads at a time.
    l.log_threads =
        std::max(l.log_groups, log2_of_at_least(int64_t((a.heads + 1) / 2) << l.log_groups, 8));
    l.aligned_x =
        all_aligned16(a.x) && a.token_stride % N == 0 && a.head_stride % N == 0 && a.half % N == 0;
    l.aligned_tables =
        all_aligned16(a.cos, a.sin) && a.cos_stride % 4 == 0 && a.sin_stride % 4 == 0;
    const int64_t blocks = ceil_div<int64_t>(a.tokens, kThreads >> l.log_threads);
    launch({"rope", unsigned(a.heads > 0 ? blocks : 0), kThreads}, stream, rope_kernel<T>, a, l);
  });
}

}  // namespace forja::kernels
