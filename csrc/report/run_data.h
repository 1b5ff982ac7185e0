// SPDX-License-Identifier: Apache-2.0
// What a run directory holds, as the report needs it.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace forja {

// The keys of "time" in metrics.jsonl, and what the report calls them.
inline constexpr std::array<const char*, 9> kTimeParts = {"data",      "forward",   "backward",
                                                          "recompute", "wait_tp",   "wait_pp",
                                                          "wait_dp",   "optimizer", "other"};
inline constexpr std::array<const char*, 9> kTimeLabels = {"data",
                                                           "forward",
                                                           "backward",
                                                           "recompute",
                                                           "tensor-parallel wait",
                                                           "pipeline wait",
                                                           "data-parallel wait",
                                                           "optimizer",
                                                           "other"};

// One training step; NaN where the line does not say. Single precision: a run has up to millions of
// them.
struct StepRecord {
  int64_t step = 0;
  double tokens = NAN, memory_bytes = NAN;
  float loss = NAN, lr = NAN, grad_norm = NAN, step_time_s = NAN, tokens_per_s = NAN;
  float mfu = NAN, mfu_full_attention = NAN;
  std::array<float, kTimeParts.size()> time_s;  // in the order of kTimeParts
  bool skipped = false;                         // the optimizer left the weights alone

  StepRecord() { time_s.fill(NAN); }
};

struct EvalRecord {
  int64_t step = 0;
  double loss = NAN, perplexity = NAN;
};

struct EvalSet {
  std::string name;
  std::vector<EvalRecord> records;  // steps rise
};

// A score of a task over the run.
struct TaskSeries {
  std::string name;                                 // "piqa, acc"
  std::vector<std::pair<int64_t, double>> records;  // step, value; steps rise
};

struct RunData {
  std::string name;                    // from run.json, else the name of the directory
  nlohmann::json info;                 // run.json; an empty object where there is none
  std::string config;                  // config.yaml, or ""
  int64_t target_steps = 0;            // train.steps of config.yaml, or 0
  std::string train_data, valid_data;  // in words, from config.yaml, or ""
  int64_t sequence_length = 0;
  std::vector<StepRecord> steps;  // steps rise
  std::vector<EvalSet> evals;
  std::vector<TaskSeries> tasks;
  std::vector<std::string> warnings;
};

// Reads a run directory; see run_report.h for the files and errors.
RunData read_run(const std::string& run_dir);

// A field of an object when it has the type, else the fallback.
std::string string_field(const nlohmann::json& object, const char* key, std::string fallback = "");
double number_field(const nlohmann::json& object, const char* key, double fallback = NAN);

}  // namespace forja
