// SPDX-License-Identifier: Apache-2.0
// What the first rank writes while a run goes on: metrics.jsonl, ranks.jsonl, TensorBoard's events.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "forja/train/metrics_log.h"
#include "forja/train/run_directory.h"
#include "forja/train/tensorboard_writer.h"

namespace forja {

class RunOutputs {
 public:
  // writes: false on ranks whose calls do nothing. The directory is prepared before open().
  RunOutputs(const RunDirectory& directory, bool writes) : directory_(directory), writes_(writes) {}

  // Goes on after `last_step`: what was said of later steps no longer holds. Again where a run goes
  // back.
  void open(int64_t last_step);
  void record(const StepMetrics& metrics);
  void record(int64_t step, const std::map<std::string, EvaluationMetrics>& evaluations,
              const TaskMetrics& tasks);
  // A line of ranks.jsonl, which is made with its first one.
  void record_ranks(const std::string& line);
  // At the end of a step; all: also what may wait.
  void flush(bool all);

 private:
  void add(const std::string& name, int64_t step, const PreferenceSums& preference);

  using Clock = std::chrono::steady_clock;

  RunDirectory directory_;
  bool writes_;
  int64_t last_step_ = 0;  // where the files were opened
  std::unique_ptr<MetricsLog> metrics_;
  std::unique_ptr<StepLog> ranks_;
  std::unique_ptr<TensorboardWriter> tensorboard_;
  Clock::time_point next_tensorboard_flush_{};
};

}  // namespace forja
