// SPDX-License-Identifier: Apache-2.0
// The results of `forja eval` as a table, as JSON, and document by document.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "forja/train/evaluation.h"

namespace forja {

// A line a score: task, version, examples, filter, metric, value, standard error.
std::string eval_table(const std::vector<EvalRequests>& tasks,
                       const std::vector<EvalResult>& results);

nlohmann::ordered_json eval_json(const EvalRequests& task, const std::string& data,
                                 const EvalResult& result);

// A JSON object a line for each document: texts, scores, answers.
std::string eval_samples(const EvalRequests& task, const EvalAnswers& answers);

}  // namespace forja
