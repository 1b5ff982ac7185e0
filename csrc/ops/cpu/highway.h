// SPDX-License-Identifier: Apache-2.0
// The one place that decides for which instruction sets the CPU ops are compiled. Include it before
// <hwy/foreach_target.h>. The best of them that the machine has is chosen when an op first runs.
//
// x86: the baseline (runs anywhere), AVX2 and AVX-512. What lies between or beyond them differs in
// instructions that these kernels do not use, and each target costs compile time. Arm: NEON only,
// because kernels hold arrays of vectors, which the sizeless SVE types do not allow; on Grace SVE2
// is no wider than NEON.
#pragma once

// Sanitizers look for faults that do not depend on the target, and multiply the time of compiling:
// AddressSanitizer gets the widest vectors and the baseline, ThreadSanitizer the baseline alone.
#if defined(__SANITIZE_THREAD__)
#define FORJA_UNSANITIZED_TARGETS (HWY_AVX2 | HWY_AVX3)
#elif defined(__SANITIZE_ADDRESS__)
#define FORJA_UNSANITIZED_TARGETS HWY_AVX2
#else
#define FORJA_UNSANITIZED_TARGETS 0
#endif
#define HWY_DISABLED_TARGETS                                                                       \
  (FORJA_UNSANITIZED_TARGETS | HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | \
   HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#include <hwy/detect_targets.h>

// Older releases do not know the newest targets.
#ifndef HWY_AVX3_ZEN4
#define HWY_AVX3_ZEN4 0
#endif
#ifndef HWY_AVX3_SPR
#define HWY_AVX3_SPR 0
#endif
