// SPDX-License-Identifier: Apache-2.0
#include "forja/train/metrics_log.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN: null stands for it.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json to_json(const PreferenceSums& p) {
  return {{"chosen_reward", number(p.chosen_reward)},
          {"rejected_reward", number(p.rejected_reward)},
          {"margin", number(p.chosen_reward - p.rejected_reward)},
          {"accuracy", p.num_accurate},
          {"pairs", int64_t(p.num_pairs)}};
}

}  // namespace

void MetricsLog::add(const StepMetrics& m) {
  Json line = {{"step", m.step},
               {"tokens", m.tokens},
               {"loss", number(m.loss)},
               {"lr", m.lr},
               {"grad_norm", number(m.gradient_norm)},
               {"step_time_s", m.step_time_s},
               {"tokens_per_s", m.tokens_per_s},
               {"mfu", m.mfu},
               {"hfu", m.hfu},
               {"mfu_full_attention", m.mfu_full_attention},
               {"memory_bytes", m.memory_bytes},
               {"skipped", m.skipped}};
  if (std::isfinite(m.gradient_norm_limit)) line["grad_norm_limit"] = m.gradient_norm_limit;
  if (std::isfinite(m.loss_limit)) line["loss_limit"] = m.loss_limit;
  if (m.rollbacks > 0) line["rollbacks"] = m.rollbacks;
  if (m.preference.num_pairs > 0) line["preference"] = to_json(m.preference);
  for (size_t i = 0; i < TimeSplit::kKinds; ++i)
    line["time"][time_kind_name(TimeKind(i))] = m.time_s[i];
  log_.add(line.dump());
}

void MetricsLog::add(int64_t step, const std::map<std::string, EvaluationMetrics>& evaluations,
                     const TaskMetrics& tasks) {
  Json line = {{"step", step}, {"eval", Json::object()}};
  for (const auto& [name, e] : evaluations) {
    Json& of = line["eval"][name];
    of["loss"] = number(e.loss);
    if (e.preference.num_pairs > 0) {
      of["preference"] = to_json(e.preference);
    } else {
      of["perplexity"] = number(std::exp(e.loss));
    }
    of["tokens"] = e.num_targets;
  }
  for (const auto& [name, metrics] : tasks)
    for (const auto& [metric, value] : metrics) line["tasks"][name][metric] = number(value);
  log_.add(line.dump());
}

}  // namespace forja
