// SPDX-License-Identifier: Apache-2.0
// A row of logits is far larger than the first-level cache, so the statistics go through it in
// blocks: maximum of the block, then the sum of its exponentials while it is still in the cache,
// joined with what came before (the online softmax of Milakov and Gimelshein, 2018). Memory is read
// once.
#include "csrc/ops/cpu/cross_entropy.h"

#include <cmath>
#include <limits>

#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/cross_entropy.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

template <class T>
float maximum_of(const T* x, int64_t n) {
  const int64_t step = lanes();
  auto m0 = set(kNegativeInfinity), m1 = m0, m2 = m0, m3 = m0;
  int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    m0 = hn::Max(m0, load(x + i));
    m1 = hn::Max(m1, load(x + i + step));
    m2 = hn::Max(m2, load(x + i + 2 * step));
    m3 = hn::Max(m3, load(x + i + 3 * step));
  }
  float m = max_lanes(hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)));
  for (; i < n; ++i) m = std::max(m, float(x[i]));
  return m;
}

template <class T>
float sum_exp_of(const T* x, int64_t n, float maximum) {
  const int64_t step = lanes();
  const auto m = set(maximum);
  auto s0 = zero(), s1 = zero();
  int64_t i = 0;
  for (; i + 2 * step <= n; i += 2 * step) {
    s0 = hn::Add(s0, vec_exp(hn::Sub(load(x + i), m)));
    s1 = hn::Add(s1, vec_exp(hn::Sub(load(x + i + step), m)));
  }
  for (; i + step <= n; i += step) s0 = hn::Add(s0, vec_exp(hn::Sub(load(x + i), m)));
  float sum = sum_lanes(hn::Add(s0, s1));
  for (; i < n; ++i) sum += std::exp(float(x[i]) - maximum);
  return sum;
}

template <class T>
void row_statistics(const T* x, int64_t n, float* maximum, float* sum_exp) {
  constexpr int64_t kBlock = 4096;
  float m = kNegativeInfinity;
  double sum = 0;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t count = std::min(kBlock, n - i);
    const float larger = std::max(m, maximum_of(x + i, count));
    // Nothing but -inf so far: they add nothing, and -inf - -inf would be NaN. (A NaN is not seen
    // by the maximum on all machines; the sum carries it.)
    const float reference = larger == kNegativeInfinity ? 0.0f : larger;
    if (larger != m) sum *= std::exp(double(m) - double(reference));
    sum += double(sum_exp_of(x + i, count, reference));
    m = larger;
  }
  *maximum = m;
  *sum_exp = float(sum);
}

void statistics_rows(const Tensor& logits, const Tensor& targets, int64_t first_column,
                     const Tensor& maximum, const Tensor& sum_exp, const Tensor& target_logit,
                     int64_t begin, int64_t end) {
  dispatch_float(logits.dtype, [&]<class T>() {
    for (int64_t r = begin; r < end; ++r) {
      const T* row = logits.ptr<T>() + r * logits.stride(0);
      row_statistics(row, logits.size(1), maximum.ptr<float>() + r, sum_exp.ptr<float>() + r);
      const int64_t target = targets.ptr<int32_t>()[r];
      const int64_t column = target - first_column;
      const bool here = target >= 0 && column >= 0 && column < logits.size(1);
      target_logit.ptr<float>()[r] = here ? float(row[column]) : 0.0f;
    }
  });
}

template <class TI, class TO>
struct GradientBody {
  const TI* x;
  TO* dx;
  float lse, coefficient;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto p = vec_exp(hn::Sub(A::get(x + i, n), set(lse)));
    A::put(hn::Mul(p, set(coefficient)), dx + i, n);
  }
};

template <class TI, class TO>
void gradient_row(const TI* x, int64_t columns, int64_t target_column, float lse, float coefficient,
                  TO* dx) {
  if (coefficient == 0) {
    memset(static_cast<void*>(dx), 0, size_t(columns) * sizeof(TO));
    return;
  }
  const bool here = target_column >= 0 && target_column < columns;
  // Read before dx, which may be x, overwrites it. p - 1 is computed in fp32 and rounded once.
  const float target_logit = here ? float(x[target_column]) : 0.0f;
  GradientBody<TI, TO> body{x, dx, lse, coefficient};
  for_vectors(columns, body);
  if (here) dx[target_column] = TO(coefficient * std::expm1(target_logit - lse));
}

void gradient_rows(const Tensor& logits, const Tensor& targets, int64_t first_column,
                   const Tensor& lse, const Tensor& coefficient, const Tensor& dlogits,
                   int64_t begin, int64_t end) {
  dispatch_float(logits.dtype, [&]<class TI>() {
    dispatch_float(dlogits.dtype, [&]<class TO>() {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t target = targets.ptr<int32_t>()[r];
        gradient_row(logits.ptr<TI>() + r * logits.stride(0), logits.size(1),
                     target < 0 ? -1 : target - first_column, lse.ptr<float>()[r],
                     coefficient.ptr<float>()[r], dlogits.ptr<TO>() + r * dlogits.stride(0));
      }
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(statistics_rows);
HWY_EXPORT(gradient_rows);

void softmax_statistics(const Tensor& logits, const Tensor& targets, int64_t first_column,
                        const Tensor& maximum, const Tensor& sum_exp, const Tensor& target_logit) {
  parallel_pieces(logits.size(0), row_grain(logits.size(1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(statistics_rows)
    (logits, targets, first_column, maximum, sum_exp, target_logit, begin, end);
  });
}

void softmax_gradient(const Tensor& logits, const Tensor& targets, int64_t first_column,
                      const Tensor& lse, const Tensor& coefficient, const Tensor& dlogits) {
  parallel_pieces(logits.size(0), row_grain(logits.size(1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(gradient_rows)
    (logits, targets, first_column, lse, coefficient, dlogits, begin, end);
  });
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
