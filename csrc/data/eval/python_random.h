// SPDX-License-Identifier: Apache-2.0
// The draws of Python's random.Random: published scores name their examples by a seed of it.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace forja {

class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed);
  // The places of random.sample(population, count) in a population of `size`; count <= size.
  std::vector<size_t> sample(size_t size, size_t count);

 private:
  size_t below(size_t bound);

  std::mt19937 engine_;
};

}  // namespace forja
