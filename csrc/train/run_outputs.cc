// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/run_outputs.h"

#include <fmt/core.h>

#include <filesystem>
#include <utility>

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

void RunOutputs::add(const std::string& name, int64_t step, const PreferenceSums& p) {
  if (p.num_pairs == 0) return;
  const std::pair<const char*, double> scalars[] = {{"accuracy", p.num_accurate},
                                                    {"margin", p.chosen_reward - p.rejected_reward},
                                                    {"chosen_reward", p.chosen_reward},
                                                    {"rejected_reward", p.rejected_reward}};
  for (const auto& [what, value] : scalars)
    tensorboard_->add_scalar(fmt::format("preference/{}/{}", what, name), step, value);
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
  add("train", m.step, m.preference);
}

void RunOutputs::record(int64_t step, const std::map<std::string, EvaluationMetrics>& evaluations,
                        const TaskMetrics& tasks) {
  if (!writes_) return;
  metrics_->add(step, evaluations, tasks);
  for (const auto& [name, e] : evaluations) {
    tensorboard_->add_scalar("loss/" + name, step, e.loss);
    add(name, step, e.preference);
  }
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
