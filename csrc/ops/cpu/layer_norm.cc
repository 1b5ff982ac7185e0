// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/layer_norm.h"

#include <cmath>

#include "csrc/ops/cpu/elementwise.h"
#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/cpu/rows.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/layer_norm.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

// Sum of a row, and sum of squared deviations of a row. The tail's missing lanes are zeros, which
// add nothing to the sum; from the squares they are masked out.
template <class T>
float row_sum(const T* x, int64_t n) {
  const int64_t step = lanes();
  auto s0 = zero(), s1 = zero();
  int64_t i = 0;
  for (; i + 2 * step <= n; i += 2 * step) {
    s0 = hn::Add(s0, load(x + i));
    s1 = hn::Add(s1, load(x + i + step));
  }
  for (; i < n; i += step) s0 = hn::Add(s0, i + step <= n ? load(x + i) : load_n(x + i, n - i));
  return sum_lanes(hn::Add(s0, s1));
}

template <class T>
float row_squared_deviations(const T* x, int64_t n, float mean) {
  const int64_t step = lanes();
  const auto m = set(mean);
  auto s0 = zero(), s1 = zero();
  int64_t i = 0;
  for (; i + 2 * step <= n; i += 2 * step) {
    const auto a = hn::Sub(load(x + i), m);
    const auto b = hn::Sub(load(x + i + step), m);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
  }
  for (; i < n; i += step) {
    const auto v = i + step <= n ? load(x + i) : load_n(x + i, n - i);
    const auto inside = hn::FirstN(DF(), size_t(std::min(step, n - i)));
    const auto a = hn::IfThenElseZero(inside, hn::Sub(v, m));
    s0 = hn::MulAdd(a, a, s0);
  }
  return sum_lanes(hn::Add(s0, s1));
}

template <class T>
struct AddRow {
  const T* a;
  const T* b;
  T* sum;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    A::put(hn::Add(A::get(a + i, n), A::get(b + i, n)), sum + i, n);
  }
};

template <class T, bool kBias>
struct NormaliseRow {
  const T* x;
  const float* weight;
  const float* bias;
  T* y;
  float mean, rstd;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto xhat = hn::Mul(hn::Sub(A::get(x + i, n), set(mean)), set(rstd));
    auto result = hn::Mul(xhat, A::get(weight + i, n));
    if constexpr (kBias) result = hn::Add(result, A::get(bias + i, n));
    A::put(result, y + i, n);
  }
};

void layer_norm_forward_rows(const Tensor& x, const Tensor& residual, const Tensor& weight,
                             const Tensor& bias, const Tensor& sum, const Tensor& y, float* mean,
                             float* rstd, float eps, int64_t begin, int64_t end) {
  dispatch_float(x.dtype, [&]<class T>() {
    const Rows<T> xs(x), ys(y), sums(sum);
    const int64_t columns = x.size(-1);
    for (int64_t r = begin; r < end; ++r) {
      if (residual.defined()) {
        AddRow<T> add_row{xs[r], Rows<T>(residual)[r], sums[r]};
        for_vectors(columns, add_row);
      }
      mean[r] = row_sum(sums[r], columns) / float(columns);
      const float variance = row_squared_deviations(sums[r], columns, mean[r]) / float(columns);
      rstd[r] = 1.0f / std::sqrt(variance + eps);
      if (bias.defined()) {
        NormaliseRow<T, true> body{sums[r], weight.ptr<float>(), bias.ptr<float>(), ys[r], mean[r],
                                   rstd[r]};
        for_vectors(columns, body);
      } else {
        NormaliseRow<T, false> body{sums[r], weight.ptr<float>(), nullptr, ys[r], mean[r], rstd[r]};
        for_vectors(columns, body);
      }
    }
  });
}

// With g = dy weight: sums over the row of g and of g (x - mean). (Missing lanes: g is 0.)
template <class T>
struct GradientSums {
  const T* dy;
  const T* x;
  const float* weight;
  float mean;
  VF sum = zero(), dot = zero();
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto g = hn::Mul(A::get(dy + i, n), A::get(weight + i, n));
    sum = hn::Add(sum, g);
    dot = hn::MulAdd(g, hn::Sub(A::get(x + i, n), set(mean)), dot);
  }
};

// dx = rstd (g - mean(g) - xhat mean(g xhat)), xhat = (x - mean) rstd.
template <class T, bool kResidual, bool kWeight>
struct GradientRow {
  const T* dy;
  const T* x;
  const float* weight;
  const T* residual;
  T* dx;
  float* weight_sum;
  float* bias_sum;
  float mean, rstd, mean_g, mean_g_xhat;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto d = A::get(dy + i, n);
    const auto xhat = hn::Mul(hn::Sub(A::get(x + i, n), set(mean)), set(rstd));
    const auto g = hn::MulSub(d, A::get(weight + i, n), set(mean_g));
    auto result = hn::Mul(hn::NegMulAdd(xhat, set(mean_g_xhat), g), set(rstd));
    if constexpr (kResidual) result = hn::Add(result, A::get(residual + i, n));
    A::put(result, dx + i, n);
    if constexpr (kWeight) {
      A::put(hn::MulAdd(d, xhat, A::get(weight_sum + i, n)), weight_sum + i, n);
      A::put(hn::Add(d, A::get(bias_sum + i, n)), bias_sum + i, n);
    }
  }
};

template <class T, bool kResidual, bool kWeight>
void layer_norm_backward_of(const Tensor& dy, const Tensor& x, const Tensor& weight,
                            const float* mean, const float* rstd, const Tensor& residual,
                            const Tensor& dx, float* sums, int64_t begin, int64_t end) {
  const Rows<T> dys(dy), xs(x), dxs(dx);
  const int64_t columns = x.size(-1);
  const float* w = weight.ptr<float>();
  for (int64_t r = begin; r < end; ++r) {
    GradientSums<T> row_sums{dys[r], xs[r], w, mean[r]};
    for_vectors(columns, row_sums);
    const float mean_g = sum_lanes(row_sums.sum) / float(columns);
    const float mean_g_xhat = sum_lanes(row_sums.dot) * rstd[r] / float(columns);
    const T* residual_row = kResidual ? Rows<T>(residual)[r] : nullptr;
    GradientRow<T, kResidual, kWeight> body{
        dys[r],  xs[r],   w,      residual_row, dxs[r], sums, kWeight ? sums + columns : nullptr,
        mean[r], rstd[r], mean_g, mean_g_xhat};
    for_vectors(columns, body);
  }
}

// sums [2H] is overwritten with the rows' part of the gradients of weight and bias; nullptr: not
// wanted.
void layer_norm_backward_rows(const Tensor& dy, const Tensor& x, const Tensor& weight,
                              const float* mean, const float* rstd, const Tensor& residual,
                              const Tensor& dx, float* sums, int64_t begin, int64_t end) {
  if (sums) memset(sums, 0, size_t(2 * x.size(-1)) * sizeof(float));
  dispatch_float(x.dtype, [&]<class T>() {
    if (residual.defined()) {
      auto* f =
          sums ? &layer_norm_backward_of<T, true, true> : &layer_norm_backward_of<T, true, false>;
      f(dy, x, weight, mean, rstd, residual, dx, sums, begin, end);
    } else {
      auto* f =
          sums ? &layer_norm_backward_of<T, false, true> : &layer_norm_backward_of<T, false, false>;
      f(dy, x, weight, mean, rstd, residual, dx, sums, begin, end);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(layer_norm_forward_rows);
HWY_EXPORT(layer_norm_backward_rows);

void layer_norm_forward(const Tensor& x, const Tensor& residual, const Tensor& weight,
                        const Tensor& bias, const Tensor& sum, const Tensor& y, const Tensor& mean,
                        const Tensor& rstd, float eps) {
  parallel_pieces(num_rows(x), row_grain(x.size(-1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(layer_norm_forward_rows)
    (x, residual, weight, bias, sum, y, mean.ptr<float>(), rstd.ptr<float>(), eps, begin, end);
  });
}

void layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& mean, const Tensor& rstd, const Tensor& residual_gradient,
                         const Tensor& dx, const Tensor& weight_gradient,
                         const Tensor& bias_gradient, const Tensor& partial) {
  const int64_t rows = num_rows(x), columns = x.size(-1), block = rows_per_block(rows);
  parallel_pieces(rows, block, [&](int64_t begin, int64_t end) {
    float* sums = partial.defined() ? partial.ptr<float>() + begin / block * 2 * columns : nullptr;
    HWY_DYNAMIC_DISPATCH(layer_norm_backward_rows)
    (dy, x, weight, mean.ptr<float>(), rstd.ptr<float>(), residual_gradient, dx, sums, begin, end);
  });
  if (!partial.defined()) return;
  const Tensor used = partial.slice(0, 0, (rows + block - 1) / block);
  if (weight_gradient.defined()) add_partial_sums(used.slice(1, 0, columns), weight_gradient);
  if (bias_gradient.defined()) add_partial_sums(used.slice(1, columns, 2 * columns), bias_gradient);
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
