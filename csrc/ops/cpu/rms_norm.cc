// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/rms_norm.h"

#include <cmath>

#include "csrc/ops/cpu/elementwise.h"
#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/cpu/rows.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/rms_norm.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

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

template <class T>
struct SquareSum {
  const T* x;
  VF even = zero(), odd = zero();
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto v = A::get(x + i, n);
    odd = hn::MulAdd(v, v, odd);
    std::swap(even, odd);
  }
};

template <class T>
struct ScaleRow {
  const T* x;
  const float* weight;
  T* y;
  float rstd;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    A::put(hn::Mul(hn::Mul(A::get(x + i, n), set(rstd)), A::get(weight + i, n)), y + i, n);
  }
};

void rms_forward_rows(const Tensor& x, const Tensor& residual, const Tensor& weight,
                      const Tensor& sum, const Tensor& y, float* rstd, float eps, int64_t begin,
                      int64_t end) {
  dispatch_float(x.dtype, [&]<class T>() {
    const Rows<T> xs(x), ys(y), sums(sum);
    const int64_t columns = x.size(-1);
    for (int64_t r = begin; r < end; ++r) {
      if (residual.defined()) {
        AddRow<T> add_row{xs[r], Rows<T>(residual)[r], sums[r]};
        for_vectors(columns, add_row);
      }
      SquareSum<T> squares{sums[r]};
      for_vectors(columns, squares);
      const float mean_square = sum_lanes(hn::Add(squares.even, squares.odd)) / float(columns);
      rstd[r] = 1.0f / std::sqrt(mean_square + eps);
      ScaleRow<T> scale_row{sums[r], weight.ptr<float>(), ys[r], rstd[r]};
      for_vectors(columns, scale_row);
    }
  });
}

// sum over the row of dy weight x
template <class T>
struct GradientDot {
  const T* dy;
  const T* x;
  const float* weight;
  VF even = zero(), odd = zero();
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    odd = hn::MulAdd(hn::Mul(A::get(dy + i, n), A::get(weight + i, n)), A::get(x + i, n), odd);
    std::swap(even, odd);
  }
};

// With xhat = x rstd and g = dy weight: dx = rstd (g - xhat mean(g xhat)) = rstd g - x rstd^3
// mean(g x).
template <class T, bool kResidual, bool kWeight>
struct GradientRow {
  const T* dy;
  const T* x;
  const float* weight;
  const T* residual;
  T* dx;
  float* weight_sum;
  float rstd, x_factor;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto d = A::get(dy + i, n);
    const auto v = A::get(x + i, n);
    const auto g = hn::Mul(hn::Mul(d, A::get(weight + i, n)), set(rstd));
    auto result = hn::NegMulAdd(v, set(x_factor), g);
    if constexpr (kResidual) result = hn::Add(result, A::get(residual + i, n));
    A::put(result, dx + i, n);
    if constexpr (kWeight) {
      A::put(hn::MulAdd(d, hn::Mul(v, set(rstd)), A::get(weight_sum + i, n)), weight_sum + i, n);
    }
  }
};

template <class T, bool kResidual, bool kWeight>
void rms_backward_of(const Tensor& dy, const Tensor& x, const Tensor& weight, const float* rstd,
                     const Tensor& residual, const Tensor& dx, float* weight_sum, int64_t begin,
                     int64_t end) {
  const Rows<T> dys(dy), xs(x), dxs(dx);
  const int64_t columns = x.size(-1);
  const float* w = weight.ptr<float>();
  for (int64_t r = begin; r < end; ++r) {
    GradientDot<T> dot{dys[r], xs[r], w};
    for_vectors(columns, dot);
    const float mean = sum_lanes(hn::Add(dot.even, dot.odd)) / float(columns);
    const T* residual_row = kResidual ? Rows<T>(residual)[r] : nullptr;
    GradientRow<T, kResidual, kWeight> body{
        dys[r], xs[r],      w,       residual_row,
        dxs[r], weight_sum, rstd[r], rstd[r] * rstd[r] * rstd[r] * mean};
    for_vectors(columns, body);
  }
}

// weight_sum [H] is overwritten with the rows' part of the weight gradient; nullptr: not wanted.
void rms_backward_rows(const Tensor& dy, const Tensor& x, const Tensor& weight, const float* rstd,
                       const Tensor& residual, const Tensor& dx, float* weight_sum, int64_t begin,
                       int64_t end) {
  if (weight_sum) memset(weight_sum, 0, size_t(x.size(-1)) * sizeof(float));
  dispatch_float(x.dtype, [&]<class T>() {
    if (residual.defined()) {
      auto* f = weight_sum ? &rms_backward_of<T, true, true> : &rms_backward_of<T, true, false>;
      f(dy, x, weight, rstd, residual, dx, weight_sum, begin, end);
    } else {
      auto* f = weight_sum ? &rms_backward_of<T, false, true> : &rms_backward_of<T, false, false>;
      f(dy, x, weight, rstd, residual, dx, weight_sum, begin, end);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(rms_forward_rows);
HWY_EXPORT(rms_backward_rows);

void rms_norm_forward(const Tensor& x, const Tensor& residual, const Tensor& weight,
                      const Tensor& sum, const Tensor& y, const Tensor& rstd, float eps) {
  parallel_pieces(num_rows(x), row_grain(x.size(-1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(rms_forward_rows)
    (x, residual, weight, sum, y, rstd.ptr<float>(), eps, begin, end);
  });
}

void rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                       const Tensor& residual_gradient, const Tensor& dx,
                       const Tensor& weight_gradient, const Tensor& partial) {
  const int64_t rows = num_rows(x), block = rows_per_block(rows);
  parallel_pieces(rows, block, [&](int64_t begin, int64_t end) {
    float* sum = partial.defined() ? partial.ptr<float>() + begin / block * x.size(-1) : nullptr;
    HWY_DYNAMIC_DISPATCH(rms_backward_rows)
    (dy, x, weight, rstd.ptr<float>(), residual_gradient, dx, sum, begin, end);
  });
  if (partial.defined())
    add_partial_sums(partial.slice(0, 0, (rows + block - 1) / block), weight_gradient);
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
