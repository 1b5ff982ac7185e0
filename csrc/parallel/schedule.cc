// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/schedule.h"

namespace forja {

std::vector<Action> single_stage_schedule(int num_microbatches) {
  std::vector<Action> actions;
  for (int m = 0; m < num_microbatches; ++m) {
    actions.push_back({ActionKind::forward, 0, m});
    actions.push_back({ActionKind::backward, 0, m});
  }
  actions.push_back({ActionKind::reduce_gradients, 0, num_microbatches - 1});
  return actions;
}

}  // namespace forja
