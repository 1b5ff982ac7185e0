// SPDX-License-Identifier: Apache-2.0
// Plain fp64 references carry, beside each value, a bound on the error of a correct fp32
// evaluation.
//
// Where the bounds come from (Higham, "Accuracy and Stability of Numerical Algorithms", ch. 3):
// with unit roundoff u, a sum of n products, in any order and with or without fused multiply-adds,
// differs from the exact one by at most gamma(n) sum |a_i b_i|, gamma(n) = n u / (1 - n u). A chain
// of k roundings multiplies by at most 1 + gamma(k). Errors of arguments pass through a function by
// its derivative. The result is rounded once more to the dtype it is stored in.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "forja/tensor/tensor.h"
#include "tests/testing/testing.h"

namespace forja::testing {

// Half the distance from 1 to the next number.
inline double unit_roundoff(DType dtype) {
  return dtype == DType::bf16 ? std::ldexp(1.0, -8) : std::ldexp(1.0, -24);
}

inline double gamma(double n) {
  const double nu = n * unit_roundoff(DType::f32);
  return nu / (1 - nu);
}

// Relative error that the vector exponential may have: 1 ulp in fp32 (2 u), with the same again for
// safety of the polynomial's last bits.
inline constexpr double kExpError = 4.0 / 16777216.0;

struct Bounded {
  double value = 0, bound = 0;
};

// Every element of `actual`, in row-major order, within the bound of its reference and of the
// rounding to its dtype.
inline void expect_within(const Tensor& actual, const std::vector<Bounded>& expected,
                          const char* what) {
  const std::vector<double> found = to_doubles(actual);
  ASSERT_EQ(found.size(), expected.size()) << what;
  const double u = unit_roundoff(actual.dtype);
  int64_t bad = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double value = expected[i].value;
    if (std::isinf(value) && value == found[i]) continue;
    // The smallest fp32 numbers may be flushed or lose bits.
    const double allowed = expected[i].bound + u * (std::fabs(value) + expected[i].bound) + 1.2e-38;
    if (std::fabs(found[i] - value) <= allowed) continue;
    if (++bad <= 5) {
      ADD_FAILURE() << what << ": element " << i << " is " << found[i] << ", expected " << value
                    << ", off by " << std::fabs(found[i] - value) << ", allowed " << allowed;
    }
  }
  EXPECT_EQ(bad, 0) << what;
}

// Both tensors hold the same bits, element by element.
inline void expect_same_bits(const Tensor& a, const Tensor& b, const char* what) {
  const std::vector<double> x = to_doubles(a), y = to_doubles(b);
  ASSERT_EQ(x.size(), y.size()) << what;
  for (size_t i = 0; i < x.size(); ++i) {
    const bool same = x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]));
    ASSERT_TRUE(same) << what << ": element " << i << " is " << x[i] << " and " << y[i];
  }
}

// Runs `body` with this many OpenMP threads.
inline void with_threads(int threads, const std::function<void()>& body) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  body();
  omp_set_num_threads(before);
}

// Plans `body` on a planning arena and returns the scratch it took. `body` gets a context; its
// tensors' data is not touched by ops that plan.
inline int64_t planned_bytes(const std::function<void(const Context&)>& body) {
  Arena arena("planned");
  const Context context{.device = {}, .workspace = &arena};
  body(context);
  EXPECT_EQ(arena.used_bytes(), 0);
  return arena.peak_bytes();
}

}  // namespace forja::testing
