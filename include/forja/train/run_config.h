// SPDX-License-Identifier: Apache-2.0
// A run is one YAML file. Every key has a default, a doc line and a check.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forja/base/config.h"
#include "forja/data/loader.h"
#include "forja/device/context.h"
#include "forja/nn/model_config.h"
#include "forja/parallel/parallel_config.h"
#include "forja/parallel/parameter.h"
#include "forja/train/lr_schedule.h"
#include "forja/train/preference.h"

namespace forja {

struct InitConfig {
  std::string from;  // Hugging Face directory or checkpoint; empty: random
  void visit(ConfigVisitor& v);
};

struct BatchRampConfig {
  int64_t start = 0;  // first global batch size; 0: no ramp
  int64_t steps = 0;  // over which it grows to global_batch_size
  void visit(ConfigVisitor& v);
};

struct SpikeConfig {
  std::string action = "none";  // none, skip, rollback
  int64_t window = 128;         // steps
  double threshold = 6.0;       // standard deviations
  int64_t patience = 10;        // steps
  int64_t max_rollbacks = 3;
  void visit(ConfigVisitor& v);
};

struct TrainConfig {
  int64_t steps = 0;  // one of steps and tokens
  int64_t tokens = 0;
  int64_t global_batch_size = 8;  // sequences
  int64_t micro_batch_size = 0;   // sequences of a rank at a time; 0: all of the rank's
  BatchRampConfig batch_ramp;
  std::string precision = "fp32";  // fp32, bf16
  std::string device = "auto";     // auto, cpu, cuda
  int64_t ranks_per_gpu = 1;
  double time_limit_minutes = 0.0;
  double hang_timeout_minutes = 15.0;
  int64_t seed = 1234;
  std::string resume = "auto";      // auto, never
  std::string non_finite = "stop";  // stop, continue
  SpikeConfig spikes;
  int64_t log_every = 1;
  int64_t compare_ranks_every = 100;
  bool verify_layout = false;
  int64_t trace_steps = 0;
  void visit(ConfigVisitor& v);
};

struct OptimizerConfig {
  std::string name = "adamw";
  double lr = 3e-4;
  std::vector<double> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;
  std::string state_dtype = "fp32";  // fp32, bf16
  bool stochastic_rounding = false;
  LrScheduleConfig schedule;
  void visit(ConfigVisitor& v);
  DType moment_dtype() const { return state_dtype == "bf16" ? DType::bf16 : DType::f32; }
};

struct EvalTaskConfig {
  std::string name;  // of a built-in task, or
  std::string file;  // that describes one
  std::string path;
  int64_t limit = 0;
  int64_t num_fewshot = -1;
  void visit(ConfigVisitor& v);
};

struct EvalConfig {
  int64_t every = 0;
  int64_t batches = 50;
  std::vector<EvalTaskConfig> tasks;
  void visit(ConfigVisitor& v);
};

struct CheckpointConfig {
  int64_t every = 0;
  int64_t keep_last = 3;
  int64_t keep_every = 0;
  std::string async = "auto";  // auto, true, false
  bool is_async(Device device) const {
    return async == "auto" ? !device.is_cpu() : async == "true";
  }
  void visit(ConfigVisitor& v);
};

struct KernelsConfig {
  std::string matmul = "auto";  // auto, cublaslt, custom
  void visit(ConfigVisitor& v);
  GpuMatmul gpu_matmul() const;
};

struct RunConfig {
  std::string name = "run";
  std::string output;  // run directory; empty: runs/<name>
  ModelConfig model;
  InitConfig init;
  DataConfig data;
  ParallelConfig parallel;
  TrainConfig train;
  OptimizerConfig optimizer;
  std::vector<ParameterRule> parameters;
  PreferenceConfig preference;
  EvalConfig eval;
  CheckpointConfig checkpoint;
  KernelsConfig kernels;

  void visit(ConfigVisitor& v);

  std::string run_directory() const { return output.empty() ? "runs/" + name : output; }
  DType compute_dtype() const { return train.precision == "bf16" ? DType::bf16 : DType::f32; }
  ParameterRules rules() const { return {model.lora.is_on(), parameters}; }
  std::string to_yaml() const;
};

RunConfig read_run_config(const std::string& file, const std::vector<std::string>& overrides);
RunConfig read_run_config_text(const std::string& text, const std::string& name);

// How many ranks, and where each stands in the global batch.
struct BatchShape {
  int64_t micro_batch_size;  // sequences
  int64_t num_microbatches;  // of each rank
};
// Splits `global_batch_size` sequences over dp ranks; throws bad_input with every factor when it
// does not divide.
BatchShape split_batch(const TrainConfig& train, int64_t global_batch_size, int dp);

// Sequences of step `step` (from 1), and before it: pure functions of the step.
int64_t batch_size_of_step(const TrainConfig& train, int64_t step);
int64_t samples_before_step(const TrainConfig& train, int64_t step);
// Number of steps of the whole run.
int64_t total_steps(const RunConfig& config);

}  // namespace forja
