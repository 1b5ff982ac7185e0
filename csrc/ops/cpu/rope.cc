// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/rope.h"

#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/rope.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

// (a, b) -> (a cos - b sin, b cos + a sin), sin with the sign of the direction.
template <class T>
struct RotateBody {
  T* a;
  T* b;
  const float* cos;
  const float* sin;
  float sign;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto c = A::get(cos + i, n);
    const auto s = hn::Mul(A::get(sin + i, n), set(sign));
    const auto x = A::get(a + i, n);
    const auto y = A::get(b + i, n);
    A::put(hn::NegMulAdd(y, s, hn::Mul(x, c)), a + i, n);
    A::put(hn::MulAdd(x, s, hn::Mul(y, c)), b + i, n);
  }
};

void rope_rows(const Tensor& x, const Tensor& positions, const Tensor& cos, const Tensor& sin,
               float sign, int64_t begin, int64_t end) {
  dispatch_float(x.dtype, [&]<class T>() {
    const int64_t half = x.size(2) / 2;
    for (int64_t n = begin; n < end; ++n) {
      const int64_t position = positions.ptr<int32_t>()[n];
      const float* c = cos.ptr<float>() + position * cos.stride(0);
      const float* s = sin.ptr<float>() + position * sin.stride(0);
      for (int64_t h = 0; h < x.size(1); ++h) {
        T* head = x.ptr<T>() + n * x.stride(0) + h * x.stride(1);
        RotateBody<T> body{head, head + half, c, s, sign};
        for_vectors(half, body);
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(rope_rows);

void rope(const Tensor& x, const Tensor& positions, const Tensor& cos, const Tensor& sin,
          RopeDirection direction) {
  const float sign = direction == RopeDirection::forward ? 1.0f : -1.0f;
  parallel_pieces(x.size(0), row_grain(x.size(1) * x.size(2)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(rope_rows)(x, positions, cos, sin, sign, begin, end);
  });
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
