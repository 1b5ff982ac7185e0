// SPDX-License-Identifier: Apache-2.0
// Loops over the threads of a rank. The work is cut into the same pieces whatever the number of
// threads, so a result that depends only on its piece is bitwise the same with any of them. SIMD
// code stays outside: OpenMP regions would be compiled without the target's instructions by some
// compilers.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace forja::cpu {

// f(begin, end) for consecutive pieces of [0, n) of `grain` (the last may be shorter).
template <class F>
void parallel_pieces(int64_t n, int64_t grain, const F& f) {
  const int64_t pieces = (n + grain - 1) / grain;
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (int64_t i = 0; i < pieces; ++i) f(i * grain, std::min(n, (i + 1) * grain));
}

// The same for tasks of unequal cost: each thread takes the next one when it is free. f(task,
// thread).
template <class F>
void parallel_tasks(int64_t n, const F& f) {
#pragma omp parallel for schedule(dynamic, 1) if (n > 1)
  for (int64_t i = 0; i < n; ++i) f(i, omp_get_thread_num());
}

// Threads that a parallel region may have; scratch of ops that is held per thread depends on it.
inline int max_threads() { return omp_get_max_threads(); }

// Elements or rows a piece, so that a piece is worth starting a thread for.
inline constexpr int64_t kGrainElements = 32768;
inline int64_t row_grain(int64_t row_elements) {
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, row_elements));
}

}  // namespace forja::cpu
