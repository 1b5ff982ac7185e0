// SPDX-License-Identifier: Apache-2.0
// What bf16 moments do to a run: it learns as with fp32 ones.
#include <algorithm>

#include "tests/train/run_layout.h"

namespace forja {
namespace {

// The mean of the last ten losses: single ones differ by batch.
double end_of(const Result& r) {
  double sum = 0.0;
  for (size_t i = r.losses.size() - 10; i < r.losses.size(); ++i) sum += r.losses[i] / 10;
  return sum;
}

// A bf16 moment is within 2^-7 of the fp32 one after a step, so each update is, relatively; at
// random, errors of an element's steps and of the elements are independent and do not add up. The
// loss has fallen by some nats when the run ends: a bound of 2^-7 on it is no fixed small number
// but what one such error in the whole of the path would make.
TEST(Bf16Moments, FollowTheLossesOfFp32Ones) {
  Layout layout{.layers = 2, .steps = 60};
  const Result fp32 = train(layout);
  layout.moment_dtype = DType::bf16;
  layout.stochastic = true;
  const Result bf16 = train(layout);
  ASSERT_EQ(fp32.losses.size(), bf16.losses.size());
  double worst = 0.0;
  for (size_t i = 0; i < fp32.losses.size(); ++i)
    worst = std::max(worst, std::fabs(bf16.losses[i] / fp32.losses[i] - 1.0));
  fmt::print("loss {:.4f} to {:.4f}; worst relative difference {:.1e}, at the end {:.1e}\n",
             fp32.losses.front(), end_of(fp32), worst, end_of(bf16) / end_of(fp32) - 1.0);
  EXPECT_LT(worst, 0x1p-7);
}

}  // namespace
}  // namespace forja
