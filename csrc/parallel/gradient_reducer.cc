// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/gradient_reducer.h"

namespace forja {

GradientReducer::GradientReducer(ParameterStore& store, Communicator& group, int64_t bucket_bytes)
    : group_(group), next_unit_(store.num_units() - 1), num_units_(store.num_units()) {
  int64_t begin = 0, end = 0;
  int first_unit = num_units_ - 1;
  for (int unit = num_units_ - 1; unit >= 0; --unit) {
    end += store.unit_gradients(unit).num_elements();
    if ((end - begin) * 4 < bucket_bytes && unit > 0) continue;
    if (end > begin)
      buckets_.push_back({first_unit, unit, store.all_gradients().slice(0, begin, end)});
    begin = end;
    first_unit = unit - 1;
  }
}

void GradientReducer::unit_ready(int unit, int64_t step) {
  FORJA_CHECK(unit == next_unit_, "unit {} is ready, unit {} was expected", unit, next_unit_);
  --next_unit_;
  if (next_bucket_ == buckets_.size() || buckets_[next_bucket_].last_unit != unit) return;
  const Bucket& bucket = buckets_[next_bucket_++];
  events_.push_back(group_.all_reduce(bucket.gradients, ReduceOp::sum, {"gradients", step, unit}));
}

void GradientReducer::finish() {
  FORJA_CHECK(next_unit_ == -1, "unit {} never became ready", next_unit_);
  for (const Event& event : events_) event.wait();
  events_.clear();
  next_bucket_ = 0;
  next_unit_ = num_units_ - 1;
}

}  // namespace forja
