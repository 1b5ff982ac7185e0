// SPDX-License-Identifier: Apache-2.0
// Vector code that the CPU ops share: fp32 vectors from and to fp32 or bf16 memory, tails, exp.
// Compiled once per target: included after <hwy/highway.h> inside files that use foreach_target.h.
#include <cstring>

#include "forja/base/dtype.h"

#if defined(FORJA_OPS_CPU_VEC_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FORJA_OPS_CPU_VEC_INL_H_
#undef FORJA_OPS_CPU_VEC_INL_H_
#else
#define FORJA_OPS_CPU_VEC_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU32 = hn::RebindToUnsigned<DF>;
using DI32 = hn::RebindToSigned<DF>;
using DU16 = hn::Rebind<uint16_t, DF>;
using VF = hn::Vec<DF>;

HWY_INLINE int64_t lanes() { return int64_t(hn::Lanes(DF())); }

// bf16 is the upper half of a float.
HWY_INLINE VF float_of_bits(hn::Vec<DU16> bits) {
  return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(DU32(), bits)));
}

// To nearest even: adds 0x7fff plus the lowest kept bit. NaN keeps its upper half, made quiet (the
// addition could carry its payload into infinity).
HWY_INLINE hn::Vec<DU16> bf16_bits(VF v) {
  const DU32 du;
  const auto u = hn::BitCast(du, v);
  const auto lowest = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1u));
  const auto rounded = hn::Add(u, hn::Add(lowest, hn::Set(du, 0x7fffu)));
  const auto quiet = hn::Or(u, hn::Set(du, 0x400000u));
  const auto bits = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
  return hn::TruncateTo(DU16(), hn::ShiftRight<16>(bits));
}

// round_stochastically of every lane.
HWY_INLINE VF round_at_random(VF v, hn::Vec<DU32> random) {
  const DU32 du;
  const auto sum = hn::Add(hn::BitCast(du, v), random);
  const auto rounded = hn::BitCast(DF(), hn::And(sum, hn::Set(du, 0xffff0000u)));
  return hn::IfThenElse(hn::IsFinite(v), rounded, v);
}

HWY_INLINE VF load(const float* p) { return hn::LoadU(DF(), p); }
HWY_INLINE VF load(const BFloat16* p) {
  return float_of_bits(hn::LoadU(DU16(), reinterpret_cast<const uint16_t*>(p)));
}
HWY_INLINE void store(VF v, float* p) { hn::StoreU(v, DF(), p); }
HWY_INLINE void store(VF v, BFloat16* p) {
  hn::StoreU(bf16_bits(v), DU16(), reinterpret_cast<uint16_t*>(p));
}

// The first n < lanes() elements; the others are 0 and are not touched in memory.
template <class T>
HWY_INLINE VF load_n(const T* p, int64_t n) {
  HWY_ALIGN T buffer[hn::MaxLanes(DF())];
  memset(static_cast<void*>(buffer), 0, sizeof(buffer));
  memcpy(static_cast<void*>(buffer), p, size_t(n) * sizeof(T));
  return load(buffer);
}
template <class T>
HWY_INLINE void store_n(VF v, T* p, int64_t n) {
  HWY_ALIGN T buffer[hn::MaxLanes(DF())];
  store(v, buffer);
  memcpy(static_cast<void*>(p), buffer, size_t(n) * sizeof(T));
}

HWY_INLINE VF zero() { return hn::Zero(DF()); }
HWY_INLINE VF set(float x) { return hn::Set(DF(), x); }
HWY_INLINE float sum_lanes(VF v) { return hn::GetLane(hn::SumOfLanes(DF(), v)); }
HWY_INLINE float max_lanes(VF v) { return hn::GetLane(hn::MaxOfLanes(DF(), v)); }

// x, but not below (above) the limit. NaN stays NaN, which Max and Min do not promise: on x86 they
// return the second operand when one is NaN, elsewhere the number.
HWY_INLINE VF at_least(float limit, VF x) {
#if HWY_ARCH_X86 && (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3)
  return hn::Max(set(limit), x);
#else
  return hn::IfThenElse(hn::Lt(x, set(limit)), set(limit), x);
#endif
}
HWY_INLINE VF at_most(float limit, VF x) {
#if HWY_ARCH_X86 && (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3)
  return hn::Min(set(limit), x);
#else
  return hn::IfThenElse(hn::Gt(x, set(limit)), set(limit), x);
#endif
}

// exp(x) for all x: 0 below -87.69, infinity above 88.37; NaN stays NaN.
// x = n ln2 + r with |r| <= ln2/2 (ln2 in two parts, n ln2_high exact), exp(r) = 1 + r + r^2 q(r),
// q the interpolation of degree 4 at the Chebyshev nodes: relative error 1.1e-8, to which the fp32
// evaluation adds about 1 ulp (r is known to 0.5 ulp(0.35) = 1.5e-8, the last addition rounds
// once). Multiplied by 2^n from its bits.
HWY_INLINE VF vec_exp(VF x) {
  const DF df;
  const DI32 di;
  x = at_most(89.0f, at_least(-88.0f, x));
  const auto n = hn::Round(hn::Mul(x, set(1.44269504f)));
  auto r = hn::NegMulAdd(n, set(0.693359375f), x);
  r = hn::NegMulAdd(n, set(-2.12194440e-4f), r);
  auto q = hn::MulAdd(set(1.3926183587713494e-3f), r, set(8.363179052722578e-3f));
  q = hn::MulAdd(q, r, set(4.1666554617204574e-2f));
  q = hn::MulAdd(q, r, set(1.6666576989698775e-1f));
  q = hn::MulAdd(q, r, set(0.5f));
  const auto p = hn::Add(hn::MulAdd(hn::Mul(r, r), q, r), set(1.0f));
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::Mul(p, hn::BitCast(df, power));
}

// 2^x for x <= 127.49: 0 below -126.5. With n the nearest integer and r = x - n (exact), 2^r = 1 +
// r q(r), q the interpolation of degree 5 at the Chebyshev nodes: relative error 9.2e-9 with the
// coefficients rounded to fp32, to which the evaluation adds about 1 ulp.
HWY_INLINE VF vec_exp2(VF x) {
  x = at_least(-127.0f, x);
  const auto n = hn::Round(x);
  const auto r = hn::Sub(x, n);
  auto q = hn::MulAdd(set(1.5453163e-4f), r, set(1.3390864e-3f));
  q = hn::MulAdd(q, r, set(9.6180826e-3f));
  q = hn::MulAdd(q, r, set(5.5503571e-2f));
  q = hn::MulAdd(q, r, set(2.4022651e-1f));
  q = hn::MulAdd(q, r, set(6.9314719e-1f));
  const auto p = hn::MulAdd(q, r, set(1.0f));
  const DI32 di;
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::Mul(p, hn::BitCast(DF(), power));
}

HWY_INLINE VF vec_sigmoid(VF x) {
  return hn::Div(set(1.0f), hn::Add(set(1.0f), vec_exp(hn::Neg(x))));
}

// The distribution function of the standard normal, Phi(x). With a = |x| and t = 1 / (1 + 0.3 a):
// Phi(-a) = exp(-a^2 / 2) t p(t), p the interpolation of degree 9 at the Chebyshev nodes for a in
// [0, 14.5] (relative error 4.4e-9); in fp32 the relative error is about 2^-23 (2 + a^2 / 2), from
// the rounded exponent.
HWY_INLINE VF vec_normal_cdf(VF x) {
  const auto a = at_most(14.5f, hn::Abs(x));
  const auto t = hn::Div(set(1.0f), hn::MulAdd(a, set(0.3f), set(1.0f)));
  auto p = hn::MulAdd(set(-0.020956024236529876f), t, set(0.1142574529514405f));
  p = hn::MulAdd(p, t, set(-0.2325244073163213f));
  p = hn::MulAdd(p, t, set(0.19755058456609906f));
  p = hn::MulAdd(p, t, set(-0.08421348151641854f));
  p = hn::MulAdd(p, t, set(0.09871138234526552f));
  p = hn::MulAdd(p, t, set(0.07751790107697594f));
  p = hn::MulAdd(p, t, set(0.11041841109557173f));
  p = hn::MulAdd(p, t, set(0.11955043147351704f));
  p = hn::MulAdd(p, t, set(0.1196877476912642f));
  const auto tail = hn::Mul(hn::Mul(p, t), vec_exp(hn::Mul(hn::Mul(a, a), set(-0.5f))));
  return hn::IfThenElse(hn::Lt(x, zero()), tail, hn::Sub(set(1.0f), tail));
}

// How for_vectors reads and writes: whole vectors, or the first n elements.
struct Whole {
  template <class T>
  static HWY_INLINE VF get(const T* p, int64_t) {
    return load(p);
  }
  template <class T>
  static HWY_INLINE void put(VF v, T* p, int64_t) {
    store(v, p);
  }
};
struct Part {
  template <class T>
  static HWY_INLINE VF get(const T* p, int64_t n) {
    return load_n(p, n);
  }
  template <class T>
  static HWY_INLINE void put(VF v, T* p, int64_t n) {
    store_n(v, p, n);
  }
};

// Runs body.template run<Access>(i, count) for i = 0, lanes, 2 lanes, ...: Access is Whole, or Part
// for the last count < lanes elements.
template <class Body>
HWY_INLINE void for_vectors(int64_t n, Body& body) {
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) body.template run<Whole>(i, step);
  if (i < n) body.template run<Part>(i, n - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
