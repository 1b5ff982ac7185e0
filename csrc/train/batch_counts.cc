// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/batch_counts.h"

#include <algorithm>

#include "forja/data/sample_rows.h"

namespace forja {

int64_t num_targets_of(const MicroBatch& batch) {
  const int32_t* targets = batch.targets.ptr<int32_t>();
  return std::count_if(targets, targets + batch.targets.size(0), [](int32_t t) { return t >= 0; });
}

int64_t num_tokens_of(const MicroBatch& batch) {
  const int32_t* targets = batch.targets.ptr<int32_t>();
  const int64_t rows = batch.targets.size(0);
  return rows - std::count(targets, targets + rows, kPadding);
}

Tensor without_padding(const MicroBatch& batch, const Tensor& sequences) {
  int64_t count = sequences.size(0);
  const auto is_padding = [&](int64_t s) {
    return batch.targets.ptr<int32_t>()[sequences.ptr<int32_t>()[s * 4]] == kPadding;
  };
  while (count > 0 && is_padding(count - 1)) --count;
  return sequences.slice(0, 0, count);
}

}  // namespace forja
