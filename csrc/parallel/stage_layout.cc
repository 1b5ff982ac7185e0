// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/stage_layout.h"

#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {

std::vector<std::pair<int64_t, int64_t>> layers_of_stages(const ParallelConfig& config,
                                                          int64_t num_layers, int num_stages) {
  std::vector<std::pair<int64_t, int64_t>> out;
  if (num_stages > num_layers) {
    fail_input("{} pipeline stages need at least as many layers, the model has {}", num_stages,
               num_layers);
  }
  if (config.stage_layers.empty()) {
    for (int64_t s = 0; s < num_stages; ++s)
      out.emplace_back(num_layers * s / num_stages, num_layers * (s + 1) / num_stages);
    return out;
  }
  int64_t sum = 0;
  for (int64_t n : config.stage_layers) {
    out.emplace_back(sum, sum + n);
    sum += n;
  }
  if (int(out.size()) != num_stages || sum != num_layers) {
    std::vector<std::string> numbers;
    for (int64_t n : config.stage_layers) numbers.push_back(std::to_string(n));
    fail_input(
        "parallel.stage_layers [{}] gives {} layers in {} stages; the model has {} layers, "
        "the schedule {} stages",
        join(numbers, ", "), sum, out.size(), num_layers, num_stages);
  }
  return out;
}

}  // namespace forja
