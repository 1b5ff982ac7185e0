// SPDX-License-Identifier: Apache-2.0
// Data-parallel gradient reduction that overlaps with backward: units (layers) that are ready are
// gathered into buckets, and a full bucket is all-reduced in place, in fp32, while earlier layers
// still compute. Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel
// Training", VLDB 2020.
#pragma once

#include <cstdint>
#include <vector>

#include "forja/comm/communicator.h"
#include "forja/parallel/parameter.h"

namespace forja {

class GradientReducer {
 public:
  // Neither is owned. bucket_bytes is a lower bound: a bucket closes with the unit that reaches it.
  GradientReducer(ParameterStore& store, Communicator& group, int64_t bucket_bytes);

  // The gradients of `unit` are complete on this rank. Units come in descending order, each once a
  // step.
  void unit_ready(int unit, int64_t step);
  // Waits for every reduction of the step. All units must have been ready.
  void finish();

  struct Bucket {
    int first_unit, last_unit;  // inclusive, descending: last_unit <= first_unit
    Tensor gradients;
  };
  const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  Communicator& group_;
  std::vector<Bucket> buckets_;
  std::vector<Event> events_;
  size_t next_bucket_ = 0;
  int next_unit_;
  int num_units_;
};

}  // namespace forja
