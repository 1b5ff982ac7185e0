// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/model_testing.h"

#include <algorithm>
#include <cmath>

#include "tests/testing/testing.h"

namespace forja::testing {

double relative_norm(const std::vector<double>& found, const std::vector<double>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double difference = 0.0, size = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (found[i] - expected[i]) * (found[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(difference / std::max(size, 1e-30));
}

Tensor fill_batch(const MicroBatch& batch, const Tensor& tokens, const Tensor& targets) {
  const std::vector<double> token = to_doubles(tokens), target = to_doubles(targets);
  const int64_t t = tokens.size(1);
  for (int64_t i = 0; i < int64_t(token.size()); ++i) {
    batch.tokens.ptr<int32_t>()[i] = int32_t(token[size_t(i)]);
    batch.targets.ptr<int32_t>()[i] = int32_t(target[size_t(i)]);
    batch.positions.ptr<int32_t>()[i] = int32_t(i % t);
  }
  for (int64_t s = 0; s < tokens.size(0); ++s) {
    const int32_t row[] = {int32_t(s * t), int32_t(t), int32_t(s * t), int32_t(t)};
    std::copy(row, row + 4, batch.sequences.ptr<int32_t>() + 4 * s);
  }
  return batch.sequences;
}

Tensor shaped(const Parameter& p, const Tensor& flat) {
  const auto& shape = p.spec.shape;
  return shape.size() == 2 ? flat.view({shape[0], shape[1]}) : flat;
}

}  // namespace forja::testing
