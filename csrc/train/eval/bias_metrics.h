// SPDX-License-Identifier: Apache-2.0
// What one document counts for in the metrics of bias benchmarks.
// Source: Parrish et al., "BBQ: A Hand-Built Bias Benchmark for Question Answering", 2022; the
// metrics of EsBBQ and CaBBQ in lm-evaluation-harness.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace forja {

// A metric is the mean of `value` over the documents that count, or, where some count for group 1,
// the mean of group 0 less that of group 1.
struct MetricSample {
  double value = 0.0;
  double weight = 1.0;  // 0: does not count
  int group = 0;
};

// Of a document with answers 0, 1 and from 2 on wordings of "unknown", the model's being `answer`.
// Throws bad_input for fields that are not there.
MetricSample bias_sample(const std::string& metric, const nlohmann::ordered_json& fields,
                         int64_t answer, int64_t gold);

}  // namespace forja
