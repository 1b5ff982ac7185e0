// SPDX-License-Identifier: Apache-2.0
#include "forja/train/run_config.h"

#include <algorithm>

#include "csrc/train/check_rules.h"
#include "forja/base/error.h"

namespace forja {

void InitConfig::visit(ConfigVisitor& v) {
  v.path(
      "from", from,
      "Start from these weights: a Hugging Face directory or a checkpoint. Empty: random weights.");
}

void BatchRampConfig::visit(ConfigVisitor& v) {
  v.field("start", start, "First global batch size; 0 means no ramp.", not_negative<int64_t>());
  v.field("steps", steps, "Steps over which it grows to global_batch_size, in multiples of start.",
          not_negative<int64_t>());
}

void SpikeConfig::visit(ConfigVisitor& v) {
  v.field("action", action,
          "skip: a step whose gradient norm is above the limit changes nothing; rollback: when the "
          "loss stays above the limit, the run goes back to a checkpoint and on with later data.",
          one_of({"none", "skip", "rollback"}));
  v.field("window", window,
          "Accepted steps whose mean and standard deviation give the limit; there is none before "
          "half of them are known.",
          between(int64_t(4), int64_t(100000)));
  v.field("threshold", threshold, "Standard deviations from the mean to the limit.",
          positive<double>());
  v.field("patience", patience,
          "Steps in a row above the limit: then rollback goes back, and skip takes what it skipped "
          "for the new level and begins to count anew.",
          positive<int64_t>());
  v.field("max_rollbacks", max_rollbacks,
          "For one spike; the run fails when it is not passed by then.", positive<int64_t>());
}

void TrainConfig::visit(ConfigVisitor& v) {
  v.field("steps", steps, "Length of the run in optimizer steps (or give tokens).",
          not_negative<int64_t>());
  v.field("tokens", tokens, "Length of the run in tokens (or give steps).",
          not_negative<int64_t>());
  v.field("global_batch_size", global_batch_size, "Sequences a step, over all ranks.",
          between(int64_t(1), int64_t(1) << 24));
  v.field("micro_batch_size", micro_batch_size,
          "Sequences that a rank computes at a time; 0 means all of its own.",
          not_negative<int64_t>());
  v.section("batch_ramp", batch_ramp, "Smaller batches at the start.");
  v.field("precision", precision,
          "Of computing; master weights and reductions are fp32, moments optimizer.state_dtype.",
          one_of({"fp32", "bf16"}));
  v.field("device", device, "auto: a GPU for each rank where there are any, else the CPU.",
          one_of({"auto", "cpu", "cuda"}));
  v.field("ranks_per_gpu", ranks_per_gpu,
          "Ranks that share a GPU: to try layouts of many ranks on few GPUs; 1 for speed.",
          between(int64_t(1), int64_t(64)));
  v.field("seed", seed, "Of initial weights, data order, dropout and stochastic rounding.",
          not_negative<int64_t>());
  v.field("resume", resume,
          "auto: continue from the newest checkpoint of the run directory; never: start a new run.",
          one_of({"auto", "never"}));
  v.field(
      "time_limit_minutes", time_limit_minutes,
      "Of this start: the run saves and ends with exit code 75 when the next step and a save might "
      "not end within it. 0: none. SIGTERM and SIGUSR1 do the same at once.",
      not_negative<double>());
  v.field("hang_timeout_minutes", hang_timeout_minutes,
          "When nothing has moved for so long on some rank and on all that it waits for, the run "
          "is ended and told who has not come where; a process that has died ends it at once. 0: "
          "nobody watches.",
          not_negative<double>());
  v.field("non_finite", non_finite,
          "A step with a non-finite gradient never changes weights; then stop, or continue.",
          one_of({"stop", "continue"}));
  v.section("spikes", spikes, "What to do about steps far from the usual ones.");
  v.field("log_every", log_every, "Steps between lines of the log (metrics.jsonl has every step).",
          positive<int64_t>());
  v.field(
      "compare_ranks_every", compare_ranks_every,
      "Steps over which the ranks' own times are compared: ranks that are slower than others of "
      "their pipeline stage are named, and all are in ranks.jsonl; 0: never.",
      not_negative<int64_t>());
  v.field("verify_layout", verify_layout,
          "Before the run, compute one step in its layout and in the simplest one that fits, and "
          "compare loss and gradient norm.");
  v.field("trace_steps", trace_steps,
          "Steps at the start of the run whose actions and transfers are written to trace.json "
          "(opens in Perfetto).",
          not_negative<int64_t>());
  if (!v.reading()) return;
  if (steps > 0 && tokens > 0) v.fault("tokens", "give steps or tokens, not both");
  if (batch_ramp.start > 0) {
    if (batch_ramp.steps == 0) v.fault("batch_ramp", "steps is missing");
    if (global_batch_size % batch_ramp.start != 0) {
      v.fault("batch_ramp", fmt::format("global_batch_size {} is not a multiple of start {}",
                                        global_batch_size, batch_ramp.start));
    }
  }
}

void OptimizerConfig::visit(ConfigVisitor& v) {
  v.field("name", name, "Optimizer.", one_of({"adamw"}));
  v.field("lr", lr, "Peak learning rate.", positive<double>());
  v.field("betas", betas, "Decay of the two moments.");
  v.field("eps", eps, "Added to the root of the second moment.", positive<double>());
  v.field("weight_decay", weight_decay, "Decoupled weight decay, of matrices and embeddings.",
          not_negative<double>());
  v.field("clip_norm", clip_norm, "Largest global gradient norm; 0 means no clipping.",
          not_negative<double>());
  v.field(
      "state_dtype", state_dtype,
      "Of both moments; bf16 halves their 8 bytes a parameter. Arithmetic and master weights are "
      "fp32.",
      one_of({"fp32", "bf16"}));
  v.field(
      "stochastic_rounding", stochastic_rounding,
      "Round bf16 moments up or down at random, right on average: to nearest, a second moment "
      "never shrinks where betas[1] is above 0.998. The bf16 weights that compute are rounded to "
      "nearest all the same: their fp32 masters keep what is lost.");
  v.section("schedule", schedule, "Learning rate over the run.");
  if (!v.reading()) return;
  if (stochastic_rounding && state_dtype != "bf16") {
    v.fault("stochastic_rounding", fmt::format("is of bf16 moments, state_dtype is {}: set "
                                               "state_dtype to bf16, or this to false",
                                               state_dtype));
  }
  const bool good =
      betas.size() == 2 && betas[0] >= 0 && betas[0] < 1 && betas[1] >= 0 && betas[1] < 1;
  if (!good) v.fault("betas", "expected two numbers, each 0 or greater and less than 1");
  if (schedule.min_lr > lr)
    v.fault("schedule", fmt::format("min_lr {} is above lr {}", schedule.min_lr, lr));
}

void EvalTaskConfig::visit(ConfigVisitor& v) {
  v.field("name", name, "A built-in task of forja eval, but none that generates texts.");
  v.path("file", file, "Or the YAML file of a task of one's own.");
  v.path("path", path, "Its data: a file or a folder.");
  v.field("limit", limit, "Documents of each file; 0 means all.", not_negative<int64_t>());
  v.field("num_fewshot", num_fewshot, "Examples before each document; -1 means as the task says.",
          between(int64_t(-1), int64_t(1000)));
  if (!v.reading()) return;
  if (name.empty() == file.empty()) v.fault("name", "give name, or file for a task of your own");
  if (path.empty()) v.fault("path", "expected the path of the task's data");
}

void EvalConfig::visit(ConfigVisitor& v) {
  v.field("every", every, "Steps between evaluations; 0 means only at the end.",
          not_negative<int64_t>());
  v.field("batches", batches, "Global batches of each validation set in an evaluation.",
          positive<int64_t>());
  v.list("tasks", tasks, "Tasks that are scored too, at the same steps (docs/evaluation.md).");
}

void CheckpointConfig::visit(ConfigVisitor& v) {
  v.field("every", every, "Steps between checkpoints; 0 means only at the end.",
          not_negative<int64_t>());
  v.field("keep_last", keep_last, "How many to keep; 0 means all.", not_negative<int64_t>());
  v.field("keep_every", keep_every,
          "Those of every so many steps are kept for ever, beside the last; 0 means none.",
          not_negative<int64_t>());
  v.field("async", async,
          "Write while training goes on, which then waits for one copy in host memory and no disk; "
          "auto: with GPUs. On the CPU that copy is of the memory, and writing of the cores, that "
          "training has.",
          one_of({"auto", "true", "false"}));
}

void KernelsConfig::visit(ConfigVisitor& v) {
  v.field("matmul", matmul,
          "Matrix products of GPUs: the library's (cublaslt), Forja's own (custom), or auto: each "
          "shape is measured once before the first step, among the library's algorithms and those "
          "kernels that docs/gpu-evidence.md shows right and faster.",
          one_of({"auto", "cublaslt", "custom"}));
}

GpuMatmul KernelsConfig::gpu_matmul() const {
  return matmul == "auto"       ? GpuMatmul::automatic
         : matmul == "cublaslt" ? GpuMatmul::cublaslt
                                : GpuMatmul::custom;
}

void RunConfig::visit(ConfigVisitor& v) {
  v.field("name", name, "Name of the run.");
  v.path("output", output, "Run directory; empty means runs/<name> below the working directory.");
  v.section_or_file(
      "model", model,
      "The model: a file of configs/models, a Hugging Face config.json, or the mapping itself.");
  v.section("init", init, "Initial weights.");
  v.section("data", data, "Training and validation data.");
  v.section("parallel", parallel, "How ranks share the work.");
  v.section("train", train, "Length, batch, precision.");
  v.section("optimizer", optimizer, "Optimizer and learning rate.");
  v.section("lora", model.lora,
            "Low-rank adapters: they are trained and saved, the model that they are added to stays "
            "as init.from has it.");
  v.list("parameters", parameters,
         "What is trained, and how fast, where not all is alike; the last entry that matches "
         "counts.");
  v.section("preference", preference, "Learning from pairs of a chosen and a rejected answer.");
  v.section("eval", eval, "Validation during training.");
  v.section("checkpoint", checkpoint, "Saving.");
  v.section("kernels", kernels,
            "Which of several kernels computes; the results agree to rounding.");
  if (!v.reading()) return;
  if (name.empty() || name.find('/') != std::string::npos)
    v.fault("name", "expected a name without slashes");
  if (train.steps == 0 && train.tokens == 0) v.fault("train", "give steps or tokens");
  // Of the newest three one may be of the spike's first step and one of a stop within the spike.
  const bool leaves_some = checkpoint.keep_last == 0 || checkpoint.keep_last >= 3;
  if (train.spikes.action == "rollback" && (checkpoint.every == 0 || !leaves_some)) {
    v.fault("checkpoint",
            "train.spikes.action: rollback needs checkpoints from before a spike: set every, and "
            "keep_last to 0 or at least 3");
  }
  check_rules(v, *this);
  if (preference.is_on() && !model.lora.is_on()) {
    v.fault("preference",
            "the reference is the model without the run's adapters, and there are none: set "
            "lora.rank");
  }
  if (!model.has_rope() && data.sequence_length > model.max_position_embeddings) {
    v.fault("data", fmt::format("sequence_length {} is above the model's table of {} positions",
                                data.sequence_length, model.max_position_embeddings));
  }
}

std::string RunConfig::to_yaml() const {
  RunConfig copy = *this;
  return print_config([&](ConfigVisitor& v) { copy.visit(v); });
}

RunConfig read_run_config(const std::string& file, const std::vector<std::string>& overrides) {
  RunConfig config;
  read_config_file(file, overrides, [&](ConfigVisitor& v) { config.visit(v); });
  return config;
}

RunConfig read_run_config_text(const std::string& text, const std::string& name) {
  RunConfig config;
  const auto visit = [&](ConfigVisitor& v) { config.visit(v); };
  read_config_text(text, name, {}, visit, OtherFiles::refuse);
  return config;
}

BatchShape split_batch(const TrainConfig& train, int64_t global_batch_size, int dp) {
  if (global_batch_size % dp != 0) {
    fail_input("a batch of {} sequences does not divide over dp = {} ranks", global_batch_size, dp);
  }
  const int64_t of_rank = global_batch_size / dp;
  const int64_t micro = train.micro_batch_size ? train.micro_batch_size : of_rank;
  if (of_rank % micro != 0) {
    fail_input(
        "global_batch_size {} = dp {} x micro_batch_size {} x micro-batches: {} sequences a rank "
        "are no multiple of {}",
        global_batch_size, dp, micro, of_rank, micro);
  }
  return {micro, of_rank / micro};
}

int64_t batch_size_of_step(const TrainConfig& train, int64_t step) {
  const BatchRampConfig& ramp = train.batch_ramp;
  if (ramp.start == 0 || step > ramp.steps) return train.global_batch_size;
  const int64_t levels = train.global_batch_size / ramp.start;  // 1..levels times start
  return ramp.start * (1 + (step - 1) * (levels - 1) / ramp.steps);
}

int64_t samples_before_step(const TrainConfig& train, int64_t step) {
  int64_t samples = 0;
  const int64_t ramp_steps =
      train.batch_ramp.start ? std::min(train.batch_ramp.steps, step - 1) : 0;
  for (int64_t s = 1; s <= ramp_steps; ++s) samples += batch_size_of_step(train, s);
  return samples + (step - 1 - ramp_steps) * train.global_batch_size;
}

int64_t total_steps(const RunConfig& config) {
  const TrainConfig& train = config.train;
  if (train.steps > 0) return train.steps;
  const int64_t samples =
      (train.tokens + config.data.sequence_length - 1) / config.data.sequence_length;
  const int64_t ramp_steps = train.batch_ramp.start ? train.batch_ramp.steps : 0;
  int64_t done = 0;
  for (int64_t s = 1; s <= ramp_steps; ++s) {
    done += batch_size_of_step(train, s);
    if (done >= samples) return s;
  }
  return ramp_steps + (samples - done + train.global_batch_size - 1) / train.global_batch_size;
}

}  // namespace forja
