// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/run_data.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/json.h"
#include "forja/base/text.h"

namespace forja {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kShownWarnings = 10;
constexpr int64_t kMaxStep = 1'000'000'000'000;  // doubles on the axes keep steps apart

// The number at `key`; NaN where it is absent or null. Throws what is wrong otherwise.
double optional_number(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return NAN;
  if (!found->is_number()) {
    throw std::runtime_error(fmt::format("\"{}\" is not a number", key));
  }
  return found->get<double>();
}

float finite_float(const json& object, const char* key) {
  const double value = optional_number(object, key);
  return std::isfinite(value) && std::abs(value) < 3e38 ? float(value) : NAN;
}

StepRecord parse_step(int64_t step, const json& line) {
  StepRecord record;
  record.step = step;
  record.tokens = optional_number(line, "tokens");
  record.memory_bytes = optional_number(line, "memory_bytes");
  record.loss = finite_float(line, "loss");
  record.lr = finite_float(line, "lr");
  record.grad_norm = finite_float(line, "grad_norm");
  record.step_time_s = finite_float(line, "step_time_s");
  record.tokens_per_s = finite_float(line, "tokens_per_s");
  record.mfu = finite_float(line, "mfu");
  record.mfu_full_attention = finite_float(line, "mfu_full_attention");
  const auto skipped = line.find("skipped");
  record.skipped = skipped != line.end() && skipped->is_boolean() && skipped->get<bool>();
  const auto time = line.find("time");
  if (time != line.end() && time->is_object()) {
    for (size_t i = 0; i < kTimeParts.size(); ++i) {
      record.time_s[i] = finite_float(*time, kTimeParts[i]);
    }
  }
  return record;
}

// A run that went back to a checkpoint writes steps again: the later line holds.
void add_step(RunData& run, const StepRecord& record) {
  if (!run.steps.empty() && run.steps.back().step >= record.step) {
    while (!run.steps.empty() && run.steps.back().step >= record.step) run.steps.pop_back();
    for (EvalSet& set : run.evals) {
      std::erase_if(set.records, [&](const EvalRecord& e) { return e.step >= record.step; });
    }
    for (TaskSeries& task : run.tasks)
      std::erase_if(task.records, [&](const auto& r) { return r.first >= record.step; });
  }
  run.steps.push_back(record);
}

void add_evals(RunData& run, int64_t step, const json& evals) {
  if (!evals.is_object()) throw std::runtime_error("\"eval\" is not an object");
  for (const auto& [name, values] : evals.items()) {
    if (!values.is_object()) throw std::runtime_error("an evaluation is not an object");
    EvalRecord record;
    record.step = step;
    record.loss = optional_number(values, "loss");
    record.perplexity = optional_number(values, "perplexity");
    if (std::isnan(record.perplexity)) record.perplexity = std::exp(record.loss);
    auto set = std::find_if(run.evals.begin(), run.evals.end(),
                            [&, &key = name](const EvalSet& s) { return s.name == key; });
    if (set == run.evals.end()) set = run.evals.insert(set, EvalSet{name, {}});
    std::erase_if(set->records, [&](const EvalRecord& e) { return e.step >= step; });
    if (std::isfinite(record.loss)) set->records.push_back(record);
  }
}

void add_tasks(RunData& run, int64_t step, const json& tasks) {
  if (!tasks.is_object()) throw std::runtime_error("\"tasks\" is not an object");
  for (const auto& [task, metrics] : tasks.items()) {
    if (!metrics.is_object()) throw std::runtime_error("the scores of a task are not an object");
    for (const auto& item : metrics.items()) {
      const double value = optional_number(metrics, item.key().c_str());
      if (item.key().ends_with("_stderr") || !std::isfinite(value)) continue;
      const std::string name = task + ", " + item.key();
      auto series = std::find_if(run.tasks.begin(), run.tasks.end(),
                                 [&](const TaskSeries& s) { return s.name == name; });
      if (series == run.tasks.end()) series = run.tasks.insert(series, TaskSeries{name, {}});
      std::erase_if(series->records, [&](const auto& r) { return r.first >= step; });
      series->records.emplace_back(step, value);
    }
  }
}

// Throws std::exception with what is wrong with the line.
void add_line(RunData& run, std::string_view text) {
  const json line = json::parse(text.begin(), text.end(), nullptr, false);
  if (line.is_discarded()) throw std::runtime_error("not a JSON object");
  if (!line.is_object()) throw std::runtime_error("not an object");
  const auto step = line.find("step");
  if (step == line.end() || !step->is_number_integer() || step->get<int64_t>() < 0 ||
      step->get<int64_t>() > kMaxStep) {
    throw std::runtime_error("no \"step\" that is a whole number from 0 to 10^12");
  }
  const auto eval = line.find("eval");
  if (eval != line.end()) {
    add_evals(run, step->get<int64_t>(), *eval);
    if (line.contains("tasks")) add_tasks(run, step->get<int64_t>(), line["tasks"]);
  } else {
    add_step(run, parse_step(step->get<int64_t>(), line));
  }
}

void read_metrics(RunData& run, const std::string& path) {
  const MappedFile file(path);
  std::string_view rest = file.text();
  int64_t line_number = 0, good = 0, damaged = 0;
  std::string first_error;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string_view line = trim(rest.substr(0, end));
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    ++line_number;
    if (line.empty()) continue;
    try {
      add_line(run, line);
      ++good;
    } catch (const std::exception& error) {
      if (end == rest.npos) break;  // cut short by a crash while it was written
      const std::string message =
          fmt::format("metrics.jsonl, line {}: {}; left out", line_number, error.what());
      if (damaged == 0) first_error = message;
      if (++damaged <= kShownWarnings) run.warnings.push_back(message);
    }
  }
  if (good == 0 && damaged > 0) {
    fail_input("{} holds no line of metrics ({}): give the directory of a run of forja train", path,
               first_error);
  }
  if (damaged > kShownWarnings) {
    run.warnings.push_back(
        fmt::format("metrics.jsonl: {} more damaged lines left out", damaged - kShownWarnings));
  }
}

void read_info(RunData& run, const std::string& path) {
  run.info = json::object();
  if (!fs::exists(path)) {
    run.warnings.push_back("run.json is missing: model, layout and machine are not known");
    return;
  }
  const std::string text = read_file(path);
  json info;
  try {
    info = parse_json(text);
  } catch (const Error&) {  // said below
  }
  if (!info.is_object()) {
    run.warnings.push_back("run.json is damaged: model, layout and machine are not known");
    return;
  }
  const double version = number_field(info, "format_version", 1);
  if (version > 1) {
    fail_input("{} has format version {}, this forja reads version 1: use the forja that ran it",
               path, version);
  }
  run.info = std::move(info);
}

// "web 0.9, code 0.1" of a path, a {path, weight} mapping, a list of these, or a mapping of names
// to paths.
//
// Nothing is nested deeper; aliases could make a tree of a few lines larger than any memory.
std::string describe_data(const YAML::Node& node, int most_depth = 2) {
  if (node.IsScalar()) return node.Scalar();
  if (most_depth == 0) return "";
  std::vector<std::string> parts;
  if (node.IsMap() && node["path"] && node["path"].IsScalar()) {
    const YAML::Node weight = node["weight"];
    const std::string path = node["path"].Scalar();
    return weight && weight.IsScalar() ? fmt::format("{} (weight {})", path, weight.Scalar())
                                       : path;
  }
  if (node.IsMap()) {
    for (const auto& entry : node) {
      parts.push_back(fmt::format("{}: {}", entry.first.Scalar(),
                                  describe_data(YAML::Node(entry.second), most_depth - 1)));
    }
  }
  if (node.IsSequence()) {
    for (const YAML::Node& entry : node) parts.push_back(describe_data(entry, most_depth - 1));
  }
  return join(parts, ", ");
}

void read_config(RunData& run, const std::string& path) {
  if (!fs::exists(path)) {
    run.warnings.push_back("config.yaml is missing: the configuration is not known");
    return;
  }
  run.config = read_file(path);
  try {
    const YAML::Node root = YAML::Load(run.config);
    if (!root.IsMap()) return;
    if (const YAML::Node train = root["train"]; train && train.IsMap() && train["steps"]) {
      run.target_steps = train["steps"].as<int64_t>(0);
    }
    if (const YAML::Node data = root["data"]; data && data.IsMap()) {
      if (data["train"]) run.train_data = describe_data(data["train"]);
      if (data["valid"]) run.valid_data = describe_data(data["valid"]);
      if (data["sequence_length"]) run.sequence_length = data["sequence_length"].as<int64_t>(0);
    }
  } catch (const YAML::Exception& error) {
    run.warnings.push_back(fmt::format("config.yaml does not parse: {}", error.what()));
  }
}

}  // namespace

std::string string_field(const json& object, const char* key, std::string fallback) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_string() ? found->get<std::string>() : fallback;
}

double number_field(const json& object, const char* key, double fallback) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_number() ? found->get<double>() : fallback;
}

RunData read_run(const std::string& run_dir) {
  if (!fs::is_directory(run_dir)) {
    fail_input("{} is not a directory: give the directory of a run of forja train", run_dir);
  }
  const std::string metrics = run_dir + "/metrics.jsonl";
  if (!fs::exists(metrics)) {
    fail_input("{} has no metrics.jsonl: give the directory of a run of forja train", run_dir);
  }
  RunData run;
  read_info(run, run_dir + "/run.json");
  read_config(run, run_dir + "/config.yaml");
  read_metrics(run, metrics);
  const fs::path absolute = fs::absolute(run_dir).lexically_normal();
  const fs::path own =
      absolute.has_filename() ? absolute.filename() : absolute.parent_path().filename();
  run.name = string_field(run.info, "name", own.string());
  return run;
}

}  // namespace forja
