// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/run_outputs.h"

#include <filesystem>

namespace forja {

void RunOutputs::open(int64_t last_step) {
  if (!writes_) return;
  metrics_.reset();  // it closes the file that the next one reads
  tensorboard_.reset();
  ranks_.reset();
  last_step_ = last_step;
  if (std::filesystem::exists(directory_.ranks()))
    ranks_ = std::make_unique<StepLog>(directory_.ranks(), last_step);
  metrics_ = std::make_unique<MetricsLog>(directory_.metrics(), last_step);
  tensorboard_ = std::make_unique<TensorboardWriter>(directory_.tensorboard(), last_step + 1);
}

void RunOutputs::record(const StepMetrics& m) {
  if (!writes_) return;
  metrics_->add(m);
  tensorboard_->add_scalar("loss/train", m.step, m.loss);
  tensorboard_->add_scalar("optimizer/lr", m.step, m.lr);
  tensorboard_->add_scalar("optimizer/grad_norm", m.step, m.gradient_norm);
  tensorboard_->add_scalar("speed/tokens_per_s", m.step, m.tokens_per_s);
  tensorboard_->add_scalar("speed/mfu", m.step, m.mfu);
  tensorboard_->add_scalar("memory/bytes", m.step, double(m.memory_bytes));
}

void RunOutputs::record(int64_t step, const std::map<std::string, EvaluationMetrics>& evaluations,
                        const TaskMetrics& tasks) {
  if (!writes_) return;
  metrics_->add(step, evaluations, tasks);
  for (const auto& [name, e] : evaluations) tensorboard_->add_scalar("loss/" + name, step, e.loss);
  for (const auto& [name, metrics] : tasks)
    for (const auto& [metric, value] : metrics)
      if (!metric.ends_with("_stderr"))
        tensorboard_->add_scalar("eval/" + name + "/" + metric, step, value);
}

void RunOutputs::record_ranks(const std::string& line) {
  if (!writes_) return;
  if (!ranks_) ranks_ = std::make_unique<StepLog>(directory_.ranks(), last_step_);
  ranks_->add(line);
}

void RunOutputs::flush(bool all) {
  if (!writes_) return;
  metrics_->flush();
  if (ranks_) ranks_->flush();
  if (!all && Clock::now() < next_tensorboard_flush_) return;
  tensorboard_->flush();
  next_tensorboard_flush_ = Clock::now() + std::chrono::seconds(10);
}

}  // namespace forja
