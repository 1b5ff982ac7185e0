// SPDX-License-Identifier: Apache-2.0
#include "forja/train/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace forja {

void LrScheduleConfig::visit(ConfigVisitor& v) {
  v.field("name", name, "How the learning rate falls after the warm-up.",
          one_of({"constant", "linear", "cosine", "wsd"}));
  v.field("warmup_steps", warmup_steps, "Steps over which it rises linearly to lr.",
          not_negative<int64_t>());
  v.field("min_lr", min_lr, "Where linear, cosine and wsd end.", not_negative<double>());
  v.field("decay_steps", decay_steps,
          "wsd: the last steps, over which it falls; 0 means a tenth of the run.",
          not_negative<int64_t>());
}

double learning_rate(const LrScheduleConfig& schedule, double peak, int64_t step,
                     int64_t total_steps) {
  if (step <= schedule.warmup_steps) return peak * double(step) / double(schedule.warmup_steps);
  if (schedule.name == "constant") return peak;
  int64_t begin = schedule.warmup_steps;  // the last step at the peak
  if (schedule.name == "wsd") {
    const int64_t decay =
        schedule.decay_steps ? schedule.decay_steps : std::max<int64_t>(total_steps / 10, 1);
    begin = std::max(begin, total_steps - decay);
    if (step <= begin) return peak;
  }
  const double progress =
      std::min(1.0, double(step - begin) / double(std::max<int64_t>(total_steps - begin, 1)));
  if (schedule.name == "cosine") {
    return schedule.min_lr +
           (peak - schedule.min_lr) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  }
  return peak + (schedule.min_lr - peak) * progress;
}

}  // namespace forja
