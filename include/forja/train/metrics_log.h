// SPDX-License-Identifier: Apache-2.0
// metrics.jsonl: one object a step, one an evaluation. Continues without a gap or a doubled step
// after a resume.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "forja/base/append_file.h"
#include "forja/train/engine.h"

namespace forja {

struct StepMetrics {
  int64_t step = 0, tokens = 0;
  double loss = 0.0, lr = 0.0, gradient_norm = 0.0;
  double step_time_s = 0.0;  // the mean over all ranks, as its parts are
  double tokens_per_s = 0.0, mfu = 0.0, hfu = 0.0, mfu_full_attention = 0.0;
  int64_t memory_bytes = 0;  // the process's largest resident set; on a GPU, its arenas
  bool skipped = false;
  std::array<double, TimeSplit::kKinds> time_s{};  // by TimeKind: the parts of step_time_s
};

struct EvaluationMetrics {
  double loss = 0.0;
  int64_t num_targets = 0;
};

class MetricsLog {
 public:
  // Opens `path` for appending after dropping every line of a step beyond `last_step` (0: all), and
  // a last line that was cut short.
  MetricsLog(const std::string& path, int64_t last_step);

  // Into memory, until flush().
  void add(const StepMetrics& metrics);
  void add(int64_t step, const std::map<std::string, EvaluationMetrics>& evaluations);
  // What cannot be written waits for the next one.
  void flush() { file_->flush(); }

 private:
  std::unique_ptr<AppendFile> file_;
};

}  // namespace forja
