// SPDX-License-Identifier: Apache-2.0
// What a run tells while it goes: one live line on a terminal, plain lines in a log.
#pragma once

#include <cstdint>
#include <string>

#include "forja/train/metrics_log.h"

namespace forja {

class Progress {
 public:
  Progress(int64_t first_step, int64_t total_steps, int64_t log_every);
  void show(const StepMetrics& metrics);

 private:
  int64_t first_step_, total_steps_, log_every_;
  int64_t num_shown_ = 0;  // a run may go back
  double elapsed_s_ = 0.0;
};

}  // namespace forja
