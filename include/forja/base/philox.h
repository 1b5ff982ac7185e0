// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: the same (key, counter) gives the same numbers on every device and
// in every layout. Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011
// (Philox4x32-10).
#pragma once

#include <cmath>
#include <cstdint>

#include "forja/base/dtype.h"

namespace forja {

struct Philox4 {
  uint32_t v[4];
};

// The 128 random bits of `counter` under `key`.
FORJA_HD inline Philox4 philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t c0 = uint32_t(counter_low), c1 = uint32_t(counter_low >> 32);
  uint32_t c2 = uint32_t(counter_high), c3 = uint32_t(counter_high >> 32);
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    const uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c1 = uint32_t(p1);
    c3 = uint32_t(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in [0, 1) with 24 bits.
FORJA_HD inline float uniform_float(uint32_t bits) {
  return float(bits >> 8) * (1.0f / 16777216.0f);
}

// The standard normal numbers of elements 2i and 2i+1 (Box-Muller), from the 64 bits (a, b).
FORJA_HD inline void normal_pair(uint32_t a, uint32_t b, float* first, float* second) {
  const double u = (double(a) + 1.0) * (1.0 / 4294967296.0);  // (0, 1]
  const double angle = 6.283185307179586 * (double(b) * (1.0 / 4294967296.0));
  const double radius = sqrt(-2.0 * log(u));
  *first = float(radius * cos(angle));
  *second = float(radius * sin(angle));
}

// Mixes words into one 64-bit key (splitmix64 finaliser), e.g. mix_key(seed, step, layer).
FORJA_HD inline uint64_t mix_key(uint64_t a, uint64_t b) {
  uint64_t z = a + 0x9E3779B97F4A7C15ull * (b + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

}  // namespace forja
