// SPDX-License-Identifier: Apache-2.0
// The tanh form of GELU needs no tanh: (1 + tanh(u)) / 2 = sigmoid(2u), which is one exp and one
// division and keeps its relative accuracy where tanh(u) is near -1.
#include "csrc/ops/cpu/activation.h"

#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/activation.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

// 2u = 2 sqrt(2/pi) (x + 0.044715 x^3) and its derivative.
HWY_INLINE VF tanh_argument(VF x) {
  const auto slope = hn::MulAdd(hn::Mul(x, x), set(0.0713548163f), set(1.59576912f));
  return hn::Mul(x, slope);
}
HWY_INLINE VF tanh_argument_derivative(VF x) {
  return hn::MulAdd(hn::Mul(x, x), set(0.214064449f), set(1.59576912f));
}

template <GeluKind kKind>
HWY_INLINE VF gelu(VF x) {
  if constexpr (kKind == GeluKind::tanh) return hn::Mul(x, vec_sigmoid(tanh_argument(x)));
  return hn::Mul(x, vec_normal_cdf(x));
}

template <GeluKind kKind>
HWY_INLINE VF gelu_derivative(VF x) {
  if constexpr (kKind == GeluKind::tanh) {
    const auto s = vec_sigmoid(tanh_argument(x));
    const auto ds = hn::Mul(hn::Mul(s, hn::Sub(set(1.0f), s)), tanh_argument_derivative(x));
    return hn::MulAdd(x, ds, s);
  }
  // Phi(x) + x phi(x)
  const auto density = hn::Mul(set(0.398942280f), vec_exp(hn::Mul(hn::Mul(x, x), set(-0.5f))));
  return hn::MulAdd(x, density, vec_normal_cdf(x));
}

template <class T, GeluKind kKind>
struct GeluForward {
  const T* x;
  T* y;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    A::put(gelu<kKind>(A::get(x + i, n)), y + i, n);
  }
};

template <class T, GeluKind kKind>
struct GeluBackward {
  const T* dy;
  const T* x;
  T* dx;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    A::put(hn::Mul(A::get(dy + i, n), gelu_derivative<kKind>(A::get(x + i, n))), dx + i, n);
  }
};

template <class T>
struct SwigluForward {
  const T* gate;
  const T* up;
  T* y;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto g = A::get(gate + i, n);
    A::put(hn::Mul(hn::Mul(g, vec_sigmoid(g)), A::get(up + i, n)), y + i, n);
  }
};

template <class T>
struct SwigluBackward {
  const T* dy;
  const T* gate;
  const T* up;
  T* dgate;
  T* dup;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto g = A::get(gate + i, n);
    const auto u = A::get(up + i, n);
    const auto d = A::get(dy + i, n);
    const auto s = vec_sigmoid(g);
    const auto silu = hn::Mul(g, s);
    // silu'(g) = s + silu (1 - s)
    const auto slope = hn::MulAdd(silu, hn::Sub(set(1.0f), s), s);
    A::put(hn::Mul(hn::Mul(d, u), slope), dgate + i, n);
    A::put(hn::Mul(d, silu), dup + i, n);
  }
};

template <class T>
HWY_INLINE T* row(const Tensor& t, int64_t r) {
  return t.ptr<T>() + r * t.stride(0);
}

template <class T, GeluKind kKind>
void gelu_forward_of(const Tensor& x, const Tensor& y, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    GeluForward<T, kKind> body{row<T>(x, r), row<T>(y, r)};
    for_vectors(x.size(1), body);
  }
}

template <class T, GeluKind kKind>
void gelu_backward_of(const Tensor& dy, const Tensor& x, const Tensor& dx, int64_t begin,
                      int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    GeluBackward<T, kKind> body{row<T>(dy, r), row<T>(x, r), row<T>(dx, r)};
    for_vectors(x.size(1), body);
  }
}

void gelu_forward_rows(const Tensor& x, const Tensor& y, GeluKind kind, int64_t begin,
                       int64_t end) {
  dispatch_float(x.dtype, [&]<class T>() {
    if (kind == GeluKind::tanh) return gelu_forward_of<T, GeluKind::tanh>(x, y, begin, end);
    gelu_forward_of<T, GeluKind::erf>(x, y, begin, end);
  });
}

void gelu_backward_rows(const Tensor& dy, const Tensor& x, const Tensor& dx, GeluKind kind,
                        int64_t begin, int64_t end) {
  dispatch_float(x.dtype, [&]<class T>() {
    if (kind == GeluKind::tanh) return gelu_backward_of<T, GeluKind::tanh>(dy, x, dx, begin, end);
    gelu_backward_of<T, GeluKind::erf>(dy, x, dx, begin, end);
  });
}

void swiglu_forward_rows(const Tensor& gate_up, const Tensor& y, int64_t begin, int64_t end) {
  dispatch_float(y.dtype, [&]<class T>() {
    const int64_t columns = y.size(1);
    for (int64_t r = begin; r < end; ++r) {
      SwigluForward<T> body{row<T>(gate_up, r), row<T>(gate_up, r) + columns, row<T>(y, r)};
      for_vectors(columns, body);
    }
  });
}

void swiglu_backward_rows(const Tensor& dy, const Tensor& gate_up, const Tensor& dgate_up,
                          int64_t begin, int64_t end) {
  dispatch_float(dy.dtype, [&]<class T>() {
    const int64_t columns = dy.size(1);
    for (int64_t r = begin; r < end; ++r) {
      const T* gate = row<T>(gate_up, r);
      T* dgate = row<T>(dgate_up, r);
      SwigluBackward<T> body{row<T>(dy, r), gate, gate + columns, dgate, dgate + columns};
      for_vectors(columns, body);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(gelu_forward_rows);
HWY_EXPORT(gelu_backward_rows);
HWY_EXPORT(swiglu_forward_rows);
HWY_EXPORT(swiglu_backward_rows);

void gelu_forward(const Tensor& x, const Tensor& y, GeluKind kind) {
  parallel_pieces(x.size(0), row_grain(x.size(1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(gelu_forward_rows)(x, y, kind, begin, end);
  });
}

void gelu_backward(const Tensor& dy, const Tensor& x, const Tensor& dx, GeluKind kind) {
  parallel_pieces(x.size(0), row_grain(x.size(1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(gelu_backward_rows)(dy, x, dx, kind, begin, end);
  });
}

void swiglu_forward(const Tensor& gate_up, const Tensor& y) {
  parallel_pieces(y.size(0), row_grain(y.size(1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(swiglu_forward_rows)(gate_up, y, begin, end);
  });
}

void swiglu_backward(const Tensor& dy, const Tensor& gate_up, const Tensor& dgate_up) {
  parallel_pieces(dy.size(0), row_grain(dy.size(1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(swiglu_backward_rows)(dy, gate_up, dgate_up, begin, end);
  });
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
