// SPDX-License-Identifier: Apache-2.0
#include "forja/train/metrics_log.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "forja/base/file.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN: null stands for it.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

// Of a line of metrics; one without a step is of none that may have to go.
int64_t step_of(const Json& line) {
  const auto step = line.find("step");
  return step != line.end() && step->is_number_integer() ? step->get<int64_t>() : 0;
}

std::string lines_up_to(const std::string& text, int64_t last_step) {
  std::string kept;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = text.find('\n', begin);
    if (end == text.npos) break;
    const std::string line = text.substr(begin, end - begin);
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_object() && step_of(json) <= last_step) kept += line + "\n";
    begin = end + 1;
  }
  return kept;
}

}  // namespace

MetricsLog::MetricsLog(const std::string& path, int64_t last_step) {
  if (std::filesystem::exists(path))
    write_file(path, last_step > 0 ? lines_up_to(read_file(path), last_step) : "");
  file_ = std::make_unique<AppendFile>(path, AppendFile::Open::existing_or_new);
}

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
  for (size_t i = 0; i < TimeSplit::kKinds; ++i)
    line["time"][time_kind_name(TimeKind(i))] = m.time_s[i];
  file_->add(line.dump() + "\n");
}

void MetricsLog::add(int64_t step, const std::map<std::string, EvaluationMetrics>& evaluations) {
  Json line = {{"step", step}, {"eval", Json::object()}};
  for (const auto& [name, e] : evaluations) {
    line["eval"][name] = {{"loss", number(e.loss)},
                          {"perplexity", number(std::exp(e.loss))},
                          {"tokens", e.num_targets}};
  }
  file_->add(line.dump() + "\n");
}

}  // namespace forja
