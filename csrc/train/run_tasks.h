// SPDX-License-Identifier: Apache-2.0
// The tasks of eval.tasks, scored by the engine that trains, in whatever layout it has.
#pragma once

#include <vector>

#include "forja/train/engine.h"
#include "forja/train/evaluation.h"
#include "forja/train/metrics_log.h"
#include "forja/train/run_config.h"

namespace forja {

class RunTasks {
 public:
  // Reads the data. Throws bad_input for what is wrong with it, a task that generates texts, and
  // where there is no tokenizer to read texts with.
  explicit RunTasks(const RunConfig& config);

  // Collective over all ranks of the mesh; every rank gets the scores.
  TaskMetrics evaluate(TrainEngine& engine, const Mesh& mesh) const;

 private:
  // Requests by their place among all, packed into samples: several under a document mask, else
  // one.
  using Sample = std::vector<size_t>;
  struct Task {
    EvalRequests requests;
    std::vector<const Generator::ScoreRequest*> all;
    std::vector<Sample> samples;
  };
  Task read(const EvalTaskConfig& config, const Tokenizer& tokenizer) const;
  Tensor fill(const Task& task, size_t first_sample, const MicroBatch& batch) const;
  EvalAnswers answer(const Task& task, TrainEngine& engine, const Mesh& mesh) const;

  int64_t sequence_length_;
  bool document_mask_;
  std::vector<Task> tasks_;
};

}  // namespace forja
