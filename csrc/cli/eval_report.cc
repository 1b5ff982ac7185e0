// SPDX-License-Identifier: Apache-2.0
#include "csrc/cli/eval_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace forja {
namespace {

using Json = nlohmann::ordered_json;
using Row = std::array<std::string, 6>;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

void add_rows(const EvalTask& task, const EvalScore& score, std::vector<Row>& rows) {
  for (const EvalMetric& m : score.metrics) {
    const bool has_error = m.stderr_value && std::isfinite(*m.stderr_value);
    rows.push_back({score.name, fmt::format("{}", task.version),
                    fmt::format("{}", score.num_documents),
                    m.name + (m.filter.empty() ? "" : ", " + m.filter),
                    std::isfinite(m.value) ? fmt::format("{:.4f}", m.value) : "none",
                    has_error ? fmt::format("{:.4f}", *m.stderr_value) : ""});
  }
}

Json json_of(const EvalScore& score) {
  Json metrics = Json::array();
  for (const EvalMetric& m : score.metrics) {
    Json metric = {{"name", m.name}};
    if (!m.filter.empty()) metric["filter"] = m.filter;
    metric["value"] = number(m.value);
    metric["stderr"] = m.stderr_value ? number(*m.stderr_value) : Json(nullptr);
    metrics.push_back(metric);
  }
  return {{"name", score.name}, {"documents", score.num_documents}, {"metrics", metrics}};
}

}  // namespace

std::string eval_table(const std::vector<EvalRequests>& tasks,
                       const std::vector<EvalResult>& results) {
  std::vector<Row> rows = {{"task", "version", "documents", "metric", "value", "stderr"}};
  for (size_t i = 0; i < tasks.size(); ++i) {
    for (const EvalScore& set : results[i].sets) add_rows(tasks[i].task, set, rows);
    add_rows(tasks[i].task, results[i].total, rows);
  }
  std::array<size_t, 6> widths{};
  for (const Row& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string out;
  for (const Row& row : rows) {
    std::string line = fmt::format("{:<{}}  {:>{}}  {:>{}}  {:<{}}  {:>{}}  {:>{}}", row[0],
                                   widths[0], row[1], widths[1], row[2], widths[2], row[3],
                                   widths[3], row[4], widths[4], row[5], widths[5]);
    line.resize(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

Json eval_json(const EvalRequests& task, const std::string& data, const EvalResult& result) {
  Json out = json_of(result.total);
  out["version"] = task.task.version;
  out["data"] = data;
  out["num_fewshot"] = task.task.num_fewshot;
  out["truncated"] = task.num_truncated;
  for (const EvalScore& set : result.sets) out["sets"].push_back(json_of(set));
  return out;
}

std::string eval_samples(const EvalRequests& task, const EvalAnswers& answers) {
  std::string out;
  size_t i = 0;
  for (const EvalDocumentSet& set : task.sets) {
    for (const EvalDocument& document : set.documents) {
      Json line = {{"task", task.task.name},
                   {"file", set.file},
                   {"line", document.line},
                   {"context", document.context}};
      if (i < answers.texts.size()) {
        line["target"] = document.target;
        line["text"] = answers.texts[i];
        for (const AnswerFilter& filter : task.task.filters)
          line["answers"][filter.name] = find_answer(filter, answers.texts[i]);
      } else {
        line["continuations"] = document.continuations;
        if (task.task.output_type == "multiple_choice") line["gold"] = document.gold;
        for (size_t r = 0; r < answers.scores[i].size(); ++r)
          line["scores"].push_back({{"log_likelihood", answers.scores[i][r].log_probability},
                                    {"greedy", answers.scores[i][r].greedy},
                                    {"tokens", task.scored[i][r].num_targets}});
      }
      out += line.dump() + "\n";
      ++i;
    }
  }
  return out;
}

}  // namespace forja
