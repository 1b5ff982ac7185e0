// SPDX-License-Identifier: Apache-2.0
// Sources: Matsumoto and Nishimura, "Mersenne Twister", 1998, and their mt19937ar.c (the state that
// an array of keys begins with); the documented order of draws of Lib/random.py since Python 3.9.
#include "csrc/data/eval/python_random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "forja/base/error.h"

namespace forja {
namespace {

// mt19937ar's init_by_array with one key, as the state of the standard library's engine.
struct SeedOfOneKey {
  using result_type = uint32_t;
  uint32_t key;

  template <class Iterator>
  void generate(Iterator begin, Iterator end) const {
    const size_t n = size_t(end - begin);
    std::vector<uint32_t> state(n);
    state[0] = 19650218u;
    const auto mixed = [&](size_t i) { return state[i - 1] ^ (state[i - 1] >> 30); };
    for (size_t i = 1; i < n; ++i) state[i] = 1812433253u * mixed(i) + uint32_t(i);
    size_t i = 1;
    const auto advance = [&] {
      if (++i < n) return;
      state[0] = state[n - 1];
      i = 1;
    };
    for (size_t k = 0; k < n; ++k, advance()) state[i] = (state[i] ^ mixed(i) * 1664525u) + key;
    for (size_t k = 1; k < n; ++k, advance())
      state[i] = (state[i] ^ mixed(i) * 1566083941u) - uint32_t(i);
    state[0] = 0x80000000u;
    std::copy(state.begin(), state.end(), begin);
  }
};

std::mt19937 seeded(uint32_t seed) {
  SeedOfOneKey sequence{seed};
  return std::mt19937(sequence);
}

}  // namespace

PythonRandom::PythonRandom(uint32_t seed) : engine_(seeded(seed)) {}

size_t PythonRandom::below(size_t bound) {
  const int bits = std::bit_width(bound);
  FORJA_CHECK(bound > 0 && bits <= 32, "a draw below {}", bound);
  while (true) {
    const size_t drawn = size_t(uint32_t(engine_())) >> (32 - bits);
    if (drawn < bound) return drawn;
  }
}

std::vector<size_t> PythonRandom::sample(size_t size, size_t count) {
  FORJA_CHECK(count <= size, "{} of {}", count, size);
  std::vector<size_t> out;
  size_t largest_pool = 21;  // above it, drawing again is cheaper than a copy of the population
  if (count > 5)
    largest_pool += size_t(std::pow(4.0, std::ceil(std::log(3.0 * double(count)) / std::log(4.0))));
  if (size > largest_pool) {
    while (out.size() < count) {
      const size_t drawn = below(size);
      if (std::find(out.begin(), out.end(), drawn) == out.end()) out.push_back(drawn);
    }
    return out;
  }
  std::vector<size_t> pool(size);
  std::iota(pool.begin(), pool.end(), size_t(0));
  for (size_t i = 0; i < count; ++i) {
    const size_t drawn = below(size - i);
    out.push_back(pool[drawn]);
    pool[drawn] = pool[size - i - 1];
  }
  return out;
}

}  // namespace forja
