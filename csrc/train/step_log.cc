// SPDX-License-Identifier: Apache-2.0
#include "forja/train/step_log.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "forja/base/file.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

// One without a step is of none that may have to go.
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

StepLog::StepLog(const std::string& path, int64_t last_step) {
  if (std::filesystem::exists(path))
    write_file(path, last_step > 0 ? lines_up_to(read_file(path), last_step) : "");
  file_ = std::make_unique<AppendFile>(path, AppendFile::Open::existing_or_new);
}

}  // namespace forja
