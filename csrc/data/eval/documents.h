// SPDX-License-Identifier: Apache-2.0
// The fields of the lines of .jsonl, .csv and .tsv files.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "forja/data/eval_task.h"

namespace forja {

struct RawFields {
  int64_t line = 0;               // from 1
  nlohmann::ordered_json fields;  // an object
};

// The first `limit` documents (0: all) of a file of the task. Throws bad_input with file:line.
std::vector<RawFields> read_fields(const EvalTask& task, const std::string& file, int64_t limit);

// `file` with another end, "" where it does not end in `end`.
std::string sibling_file(const std::string& file, const std::string& end,
                         const std::string& other_end);

}  // namespace forja
