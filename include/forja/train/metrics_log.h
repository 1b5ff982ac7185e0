// SPDX-License-Identifier: Apache-2.0
// metrics.jsonl: one object a step, one an evaluation. Continues without a gap or a doubled step
// after a resume.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>

#include "forja/train/engine.h"
#include "forja/train/step_log.h"

namespace forja {

struct StepMetrics {
  int64_t step = 0, tokens = 0;
  double loss = 0.0, lr = 0.0, gradient_norm = 0.0;
  double step_time_s = 0.0;  // the mean over all ranks, as its parts are
  double tokens_per_s = 0.0, mfu = 0.0, hfu = 0.0, mfu_full_attention = 0.0;
  int64_t memory_bytes = 0;  // the process's largest resident set; on a GPU, its arenas
  bool skipped = false;
  PreferenceSums preference;  // means; of pairs
  // Of train.spikes; infinity where there is none.
  double gradient_norm_limit = INFINITY, loss_limit = INFINITY;
  int64_t rollbacks = 0;                           // for the spike in or before which the step is
  std::array<double, TimeSplit::kKinds> time_s{};  // by TimeKind: the parts of step_time_s
};

struct EvaluationMetrics {
  double loss = 0.0;
  int64_t num_targets = 0;
  PreferenceSums preference = {};  // means; of pairs
};

// By task and metric ("acc", "acc_stderr").
using TaskMetrics = std::map<std::string, std::map<std::string, double>>;

class MetricsLog {
 public:
  // Goes on after `last_step`, as a StepLog does.
  MetricsLog(const std::string& path, int64_t last_step) : log_(path, last_step) {}

  // Into memory, until flush().
  void add(const StepMetrics& metrics);
  void add(int64_t step, const std::map<std::string, EvaluationMetrics>& evaluations,
           const TaskMetrics& tasks);
  void flush() { log_.flush(); }

 private:
  StepLog log_;
};

}  // namespace forja
