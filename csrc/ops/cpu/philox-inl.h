// SPDX-License-Identifier: Apache-2.0
// Random words for the CPU ops' vector code. Compiled once per target: included after vec-inl.h.
#include <cstring>

#include "forja/base/philox.h"

#if defined(FORJA_OPS_CPU_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FORJA_OPS_CPU_PHILOX_INL_H_
#undef FORJA_OPS_CPU_PHILOX_INL_H_
#else
#define FORJA_OPS_CPU_PHILOX_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR  // which has no vectors of two

// The 64-bit products of each lane with a factor, in halves.
struct Product {
  hn::Vec<DU32> low, high;
};
HWY_INLINE Product wide_product(hn::Vec<DU32> x, hn::Vec<DU32> factor) {
  const DU32 du;
  const hn::RepartitionToWide<DU32> wide;
  const auto even = hn::MulEven(x, factor);
  const auto odd = hn::MulEven(hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(wide, x))), factor);
  return {hn::OddEven(hn::BitCast(du, hn::ShiftLeft<32>(odd)), hn::BitCast(du, even)),
          hn::OddEven(hn::BitCast(du, odd), hn::BitCast(du, hn::ShiftRight<32>(even)))};
}

// The words of as many whole vectors of counters as there are in `count`: each lane is a counter.
// Returns how many counters that is.
HWY_INLINE int64_t philox_vectors(uint64_t key, uint64_t first, uint64_t counter_high,
                                  int64_t count, uint32_t* words) {
  const DU32 du;
  const auto all = [&](uint32_t x) { return hn::Set(du, x); };
  const int64_t step = int64_t(hn::Lanes(du));
  int64_t i = 0;
  for (; i + step <= count; i += step) {
    const uint64_t counter = first + uint64_t(i);
    auto c0 = hn::Add(all(uint32_t(counter)), hn::Iota(du, 0));
    const auto wraps = hn::Lt(c0, all(uint32_t(counter)));
    const auto high = all(uint32_t(counter >> 32));
    auto c1 = hn::IfThenElse(wraps, hn::Add(high, all(1)), high);
    auto c2 = all(uint32_t(counter_high)), c3 = all(uint32_t(counter_high >> 32));
    auto k0 = uint32_t(key), k1 = uint32_t(key >> 32);
    for (int round = 0; round < 10; ++round) {
      const Product p0 = wide_product(c0, all(0xD2511F53u)),
                    p1 = wide_product(c2, all(0xCD9E8D57u));
      c0 = hn::Xor(hn::Xor(p1.high, c1), all(k0));
      c2 = hn::Xor(hn::Xor(p0.high, c3), all(k1));
      c1 = p1.low;
      c3 = p0.low;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, du, words + 4 * i);
  }
  return i;
}

#else

HWY_INLINE int64_t philox_vectors(uint64_t, uint64_t, uint64_t, int64_t, uint32_t*) { return 0; }

#endif

// The words of philox(key, c, counter_high) for the counters c in [first, first + count), one after
// the other.
HWY_INLINE void philox_words(uint64_t key, uint64_t first, uint64_t counter_high, int64_t count,
                             uint32_t* words) {
  int64_t i = philox_vectors(key, first, counter_high, count, words);
  for (; i < count; ++i) {
    const Philox4 w = philox(key, first + uint64_t(i), counter_high);
    memcpy(words + 4 * i, w.v, sizeof(w.v));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
