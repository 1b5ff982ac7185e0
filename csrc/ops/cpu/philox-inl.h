// SPDX-License-Identifier: Apache-2.0
// Random words for the CPU ops' vector code. Compiled once per target, like vec-inl.h.
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

// The words of philox(key, c, counter_high) for the counters c in [first, first + count), one after
// the other.
HWY_INLINE void philox_words(uint64_t key, uint64_t first, uint64_t counter_high, int64_t count,
                             uint32_t* words) {
  for (int64_t i = 0; i < count; ++i) {
    const Philox4 w = philox(key, first + uint64_t(i), counter_high);
    memcpy(words + 4 * i, w.v, sizeof(w.v));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
