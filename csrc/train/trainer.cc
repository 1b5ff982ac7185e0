// SPDX-License-Identifier: Apache-2.0
#include "forja/train/trainer.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "csrc/train/agreement.h"
#include "csrc/train/check_rules.h"
#include "csrc/train/describe_memory.h"
#include "csrc/train/engine_config.h"
#include "csrc/train/non_finite.h"
#include "csrc/train/rank_watch.h"
#include "csrc/train/run_data.h"
#include "csrc/train/run_loader.h"
#include "csrc/train/run_lock.h"
#include "csrc/train/run_outputs.h"
#include "csrc/train/run_saver.h"
#include "csrc/train/run_tasks.h"
#include "csrc/train/run_watch.h"
#include "csrc/train/sample_datasets.h"
#include "csrc/train/spike_guard.h"
#include "csrc/train/spikes.h"
#include "csrc/train/stop_wish.h"
#include "csrc/train/verify_layout.h"
#include "forja/base/file.h"
#include "forja/base/hash.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/base/version.h"
#include "forja/checkpoint/checkpoint.h"
#include "forja/device/cpu_topology.h"
#include "forja/ops/elementwise.h"
#include "forja/ops/matmul_choices.h"
#include "forja/train/choose_device.h"
#include "forja/train/engine.h"
#include "forja/train/metrics_log.h"
#include "forja/train/progress.h"
#include "forja/train/run_directory.h"
#include "forja/train/trace.h"

namespace forja {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

// Before anything that depends on them.
ParallelDims agreed_dims(const RunConfig& config, World& world) {
  agree_on(world.communicator(), "configuration", hash_text(config.to_yaml()));
  const MappedFile binary("/proc/self/exe");
  agree_on(world.communicator(), "forja binary", hash_bytes(binary.data(), binary.size()));
  return ParallelDims::from(config.parallel, world.size());
}

class Trainer {
 public:
  Trainer(const RunConfig& config, World& world)
      : config_(config),
        world_(world),
        directory_(config.run_directory()),
        stop_wish_(60.0 * config.train.time_limit_minutes),
        dims_(agreed_dims(config, world)),
        watch_(world, 60.0 * config.train.hang_timeout_minutes),
        engine_config_(engine_config(config, choose_device(config.train, world), dims_.dp)),
        mesh_(make_checked_mesh()),
        total_steps_(total_steps(config)),
        rank_watch_(config.train.compare_ranks_every, engine_config_.device, dims_, world),
        data_(make_data()),
        train_data_(open_training_data(data_, uint64_t(config.train.seed))),
        tasks_(config),
        loader_(config_, world.communicator()),
        outputs_(directory_, world.rank() == 0) {
    note("opening the data");
    watch_.watch(mesh_);
    engine_config_.flight_record = &watch_.record();
    train_data_.check_vocabulary(config.model.vocab_size);
    check_kind(train_data_, config);
    for (size_t i = 0; i < config.data.valid.size(); ++i) {
      valid_data_.push_back(open_validation_data(data_, i));
      valid_data_.back().check_vocabulary(config.model.vocab_size);
      check_kind(valid_data_.back(), config);
      if (valid_data_.back().tokenizer_hash() != train_data_.tokenizer_hash()) {
        fail_input("the datasets {} and {} were made by different tokenizers",
                   config.data.train[0].path, config.data.valid[i].path);
      }
    }
    if (!engine_config_.device.is_cpu() && engine_config_.gpu_matmul == GpuMatmul::automatic) {
      matmul_choices_.emplace(matmul_machine(engine_config_.device));
      engine_config_.matmul_choices = &*matmul_choices_;
    }
    note("planning memory");
    check_memory();
    agree_on(world.communicator(), "data", content_hash(train_data_));
    tell_samples(train_data_, config);
  }

  ExitCode run() {
    const std::vector<std::string> checkpoints = directory_.find_resume(config_);
    // Hosts that do not share the run directory would continue from different steps.
    agree_on(world_.communicator(), fmt::format("newest checkpoint in {}", directory_.path()),
             hash_text(checkpoints.empty() ? "" : checkpoints[0]));
    if (leader()) own_directory(checkpoints);
    // Nobody writes before everybody has looked.
    world_.communicator().barrier({"run directory"}).wait();
    verify(checkpoints);
    make_engine(checkpoints);
    if (state_.step >= total_steps_) {
      log_info("{} has already done its {} steps", directory_.path(), total_steps_);
      return ExitCode::ok;
    }
    if (leader()) directory_.prepare(config_);
    if (leader()) write_run_json();
    check_shared(world_, directory_.run());
    watch_.keep_in(directory_.flight());
    outputs_.open(state_.step);
    if (config_.train.trace_steps > 0) trace_ = std::make_unique<StepTrace>(*engine_, mesh_);
    Progress progress(state_.step + 1, total_steps_, config_.train.log_every);
    while (state_.step < total_steps_) {
      const StepMetrics metrics = run_step(state_.step + 1);
      saver_->poll();
      outputs_.record(metrics);
      progress.show(metrics);
      if (trace_) write_trace();
      if (!std::isfinite(metrics.gradient_norm)) on_non_finite(metrics);
      if (spikes_->after_step(metrics, state_)) {  // the run went back, to a checkpoint
        outputs_.open(state_.step);
        save_due_ = false;
        if (stop_votes_ > 0) return tell_stop();
        continue;
      }
      const bool last = state_.step == total_steps_;
      if (is_due(config_.eval.every) || last) evaluate();
      save_due_ = save_due_ || is_due(config_.checkpoint.every);
      const bool saves = (save_due_ && !spikes_->holds_back_saves(state_)) || last;
      // A checkpoint has the lines of its steps before it: what ends the run in between leaves no
      // gap.
      const bool stops = stop_votes_ > 0 && !last;
      outputs_.flush(saves || stops);
      if (saves || stops) save(last || stops);
      if (saves) save_due_ = false;
      if (stops) return tell_stop();
    }
    tell_end();
    return ExitCode::ok;
  }

 private:
  bool leader() const { return world_.rank() == 0; }
  void note(std::string_view activity) { watch_.record().set_activity(activity); }

  // What another start of the run has saved since is not in the list.
  void own_directory(const std::vector<std::string>& checkpoints) {
    check_writable(directory_.path());
    lock_.emplace(directory_, world_.hosts()[size_t(world_.rank())]);
    if (directory_.find_resume(config_) == checkpoints) return;
    fail_input("{} changed while this start looked at it: start the run again", directory_.path());
  }

  DataConfig make_data() {
    note("making samples of the data");
    // A directory that is no run's, or of another run, is refused before anything is written there.
    directory_.find_resume(config_);
    return make_sample_datasets(config_, world_, [this] { watch_.record().progressed(); });
  }

  void save(bool must) {
    note("saving a checkpoint");
    saver_->save(state_, must);
  }

  Mesh make_checked_mesh() {
    check_layouts(config_, engine_config_, dims_);
    dims_.check_hosts(world_.hosts());
    const Device device = engine_config_.device;
    const bool nccl =
        uses_nccl(config_.parallel.communicator, config_.train, device, world_.size());
    if (nccl)
      gpu_ranks_ = make_nccl_communicator(world_.communicator(), device,
                                          world_.hosts()[size_t(world_.rank())]);
    return make_mesh(nccl ? *gpu_ranks_ : world_.communicator(), dims_,
                     mesh_options(engine_config_));
  }
  bool is_due(int64_t every) const { return every > 0 && state_.step % every == 0; }

  // The arenas are reserved at the start and filled later: what does not fit is said now, not by
  // the kernel's out-of-memory killer.
  void check_memory() const {
    int64_t of_rank = TrainEngine::plan(engine_config_, dims_, world_.rank()).total();
    const Device device = engine_config_.device;
    const bool on_cpu = device.is_cpu();
    const int64_t there = on_cpu ? host_memory_bytes() : gpu_memory(device).free_bytes;
    world_.communicator()
        .all_reduce(make_tensor(&of_rank, DType::i64, {1}), ReduceOp::max, {"memory"})
        .wait();
    const int ranks = on_cpu ? world_.local_size()
                             : std::min(int(config_.train.ranks_per_gpu), world_.local_size());
    if (of_rank <= there / ranks) return;
    fail_input(
        "not enough memory: {} a rank x {} rank{} of this {}, which has {}; a smaller "
        "train.micro_batch_size, model or data.sequence_length needs less, a higher parallel.zero "
        "divides more (see --dry-run)",
        format_bytes(double(of_rank)), ranks, ranks == 1 ? "" : "s", on_cpu ? "host" : "GPU",
        format_bytes(double(there)));
  }

  void tell_end() const {
    const int64_t skipped = state_.step - state_.num_updates;
    log_live("");
    log_info("done: {} steps{}, {} tokens; {}", state_.step,
             skipped > 0 ? fmt::format(" ({} of them skipped)", skipped) : "", state_.tokens,
             directory_.path());
  }

  ExitCode tell_stop() {
    log_live("");
    const std::string why = first_of_ranks(world_.communicator(), stop_reason_ ? stop_reason_ : "");
    log_info("stopped by {} after step {}, which is saved: start the run again to go on", why,
             state_.step);
    return ExitCode::preempted;
  }

  // Before there is an engine: the memory of two would be needed.
  void verify(std::vector<std::string> checkpoints) {
    if (!config_.train.verify_layout) return;
    const auto damaged = [this](const std::string& path) {
      std::string problem;
      try {
        if (leader()) describe_checkpoint(path, true);
      } catch (const Error& e) {
        problem = e.what();
      }
      return !first_of_ranks(world_.communicator(), problem).empty();
    };
    checkpoints.erase(checkpoints.begin(),
                      std::find_if_not(checkpoints.begin(), checkpoints.end(), damaged));
    const std::string resume = checkpoints.empty() ? "" : checkpoints[0];
    const TrainState start = resume.empty() ? TrainState{} : read_checkpoint_state(resume);
    FirstStep first;
    first.config = [this](int dp) {
      EngineConfig config = engine_config(config_, engine_config_.device, dp);
      config.snapshots = false;  // it saves nothing
      return config;
    };
    first.load = [&](TrainEngine& engine) { loader_.load(engine, resume); };
    first.fill = [this, start](int64_t sample, int64_t count, const MicroBatch& b) {
      return fill_micro_batch(train_data_, start.samples + sample, count, b);
    };
    first.step = start.step + 1;
    first.batch_size = batch_size_of_step(config_.train, first.step);
    verify_layout(first, dims_, world_);
  }

  void make_engine(const std::vector<std::string>& checkpoints) {
    const MemoryPlan plan = TrainEngine::plan(engine_config_, dims_, world_.rank());
    if (matmul_choices_) settle_matmuls();  // while the GPU's memory is free
    note("making the engine");
    engine_ = std::make_unique<TrainEngine>(engine_config_, mesh_, &plan);
    note("measuring the rate of matrix products");
    matmul_flops_ = measure_matmul_flops(engine_->context(), engine_config_.compute_dtype);
    peak_ = peak_flops(engine_->context(), engine_config_.compute_dtype, matmul_flops_);
    const std::string trained =
        config_.rules().freeze_some()
            ? fmt::format(", {} of them trained", format_count(double(count_trained(config_))))
            : "";
    log_info("{}: {} parameters{}, {}, {} x {} tokens a step, {}, {} a rank ({})", config_.name,
             format_count(double(count_parameters(config_.model))), trained, dims_.to_string(),
             config_.train.global_batch_size, config_.data.sequence_length, config_.train.precision,
             format_bytes(double(plan.total())), describe_memory(plan));
    saver_ = std::make_unique<RunSaver>(*engine_, config_, directory_, world_.communicator());
    spikes_ = std::make_unique<SpikeGuard>(config_.train.spikes, directory_.checkpoints(), loader_,
                                           *engine_, *saver_, world_.communicator());
    note("loading weights");
    const RunLoader::Loaded loaded = loader_.load_newest(*engine_, checkpoints);
    const std::string& resume = loaded.checkpoint;
    state_ = loaded.state;
    if (!resume.empty()) log_resumed(resume, loaded.read_time_s);
    if (!resume.empty() && leader()) tidy_checkpoints(resume);
    if (resume.empty() && !config_.init.from.empty())
      log_info("starting from the weights of {}", config_.init.from);
    engine_->weights_changed();
    engine_->set_vote([this] {
      stop_reason_ = stop_wish_.reason(saver_->time_needed_s(stop_wish_.guess_of_save_s()));
      return stop_reason_ != nullptr;
    });
    state_.seed = uint64_t(config_.train.seed);
  }

  void log_resumed(const std::string& path, double load_time_s) const {
    const DType saved = checkpoint_moment_dtype(path), kept = config_.optimizer.moment_dtype();
    log_info("continuing from {} (step {}){}; read in {:.2f} s", path, state_.step,
             saved == kept ? ""
                           : fmt::format(", its {} moments converted to {}", dtype_name(saved),
                                         dtype_name(kept)),
             load_time_s);
  }

  void settle_matmuls() {
    note("measuring matrix products");
    const auto begin = Clock::now();
    Communicator& world = world_.communicator();
    const int64_t measured = matmul_choices_->settle(
        matmul_choices_file(), {world_.rank(), [&](const std::string& mine) {
                                  return all_gather_text(world, mine, {"choices of products"});
                                }});
    if (measured == 0) return;
    log_info("measured the ways of {} matrix products in {:.1f} s", measured, seconds_since(begin));
  }

  StepMetrics run_step(int64_t step) {
    const auto begin = Clock::now();
    const int64_t batch = batch_size_of_step(config_.train, step);
    const int64_t micro = engine_config_.micro_batch_size, of_rank = batch / dims_.dp;
    const int64_t first_of_rank = mesh_.coordinates.dp * of_rank;
    const double lr =
        learning_rate(config_.optimizer.schedule, config_.optimizer.lr, step, total_steps_);
    // The next step's, which comes from the disk while this one computes.
    train_data_.prefetch(state_.samples + batch + first_of_rank, of_rank);
    StepMetrics out;
    set_spike_limits(config_.train.spikes, state_.spikes, out);
    engine_->optimizer().set_largest_norm(engine_->context(), out.gradient_norm_limit);
    const StepResult result = engine_->step(
        step, lr, of_rank / micro,
        [&](int64_t m, const MicroBatch& b) {
          return fill_micro_batch(train_data_, state_.samples + first_of_rank + m * micro, micro,
                                  b);
        },
        [&](int64_t m) { return (first_of_rank + m * micro) * config_.data.sequence_length; });
    state_.step = step;
    state_.samples += batch;
    state_.tokens += result.num_tokens;
    state_.num_updates = engine_->optimizer().num_updates();
    own_loss_ = result.own_loss;
    stop_votes_ = result.votes;
    stop_wish_.took_step(seconds_since(begin));

    if (trace_) trace_->add_step(step, begin, Clock::now());
    if (const auto line = rank_watch_.add(step, result)) outputs_.record_ranks(*line);

    out.step = step;
    out.tokens = state_.tokens;
    out.loss = result.loss;
    out.lr = lr;
    out.gradient_norm = result.gradient_norm;
    out.step_time_s = std::accumulate(result.time_s.begin(), result.time_s.end(), 0.0);
    out.tokens_per_s = double(result.num_tokens) / out.step_time_s;
    out.preference = result.preference;
    out.mfu = result.flops.attended / out.step_time_s / peak_.flops;
    out.hfu = (result.flops.attended + result.flops.recomputed) / out.step_time_s / peak_.flops;
    out.mfu_full_attention = result.flops.full_attention / out.step_time_s / peak_.flops;
    out.memory_bytes =
        engine_config_.device.is_cpu() ? peak_resident_bytes() : engine_->memory_used().total();
    out.skipped = result.skipped;
    out.time_s = result.time_s;
    return out;
  }

  void on_non_finite(const StepMetrics& metrics) {
    if (config_.train.non_finite == "continue") return;
    saver_->finish();  // of an earlier step, to go on from
    fail("step {}: the gradient is not finite (loss {}); first in {}", metrics.step,
         std::fabs(metrics.loss),  // a NaN may have a sign
         explain_non_finite(engine_->context(), engine_->store(), own_loss_, world_));
  }

  void evaluate() {
    note("evaluating");
    std::map<std::string, EvaluationMetrics> results;
    const int64_t micro = engine_config_.micro_batch_size;
    for (size_t i = 0; i < valid_data_.size(); ++i) {
      // Whole rounds of one micro-batch a rank; a set smaller than that is an error when it is
      // opened.
      const int64_t round = micro * dims_.dp;
      const int64_t wanted = config_.eval.batches * config_.train.global_batch_size / round;
      // Of rows of samples every one counts: what the last round lacks is padding.
      const int64_t samples = valid_data_[i].samples_per_epoch(),
                    whole =
                        valid_data_[i].rows(0) ? (samples + round - 1) / round : samples / round;
      const int64_t rounds = std::max<int64_t>(1, std::min(wanted, whole));
      const auto sums = engine_->evaluate(rounds, [&](int64_t m, const MicroBatch& b) {
        return fill_micro_batch(valid_data_[i], m * round + mesh_.coordinates.dp * micro, micro, b);
      });
      const std::string name = config_.data.valid[i].name;
      const PreferenceSums pairs = sums.preference.mean();
      const double loss =
          config_.preference.is_on()
              ? pairs.loss
              : -sums.sum_log_probability / double(std::max<int64_t>(sums.num_targets, 1));
      results[name] = {loss, sums.num_targets, pairs};
      log_live("");
      log_info("step {}: {} loss {:.4f}, {}", state_.step, name, loss,
               config_.preference.is_on()
                   ? fmt::format("accuracy {:.1f} %, margin {:.4f}, of {} pairs",
                                 100.0 * pairs.num_accurate,
                                 pairs.chosen_reward - pairs.rejected_reward, pairs.num_pairs)
                   : fmt::format("perplexity {:.2f}", std::exp(loss)));
    }
    const TaskMetrics tasks = tasks_.evaluate(*engine_, mesh_);
    for (const auto& [task, metrics] : tasks)
      for (const auto& [metric, value] : metrics)
        if (!metric.ends_with("_stderr"))
          log_info("step {}: {} {} {:.4f}", state_.step, task, metric, value);
    if (!results.empty() || !tasks.empty()) outputs_.record(state_.step, results, tasks);
  }

  void write_run_json() {
    const nlohmann::ordered_json json = {{"format_version", 1},
                                         {"name", config_.name},
                                         {"model",
                                          {{"parameters", count_parameters(config_.model)},
                                           {"layers", config_.model.num_hidden_layers},
                                           {"hidden_size", config_.model.hidden_size}}},
                                         {"ranks", world_.size()},
                                         {"hosts", world_.hosts()},
                                         {"layout", dims_.to_string()},
                                         {"launcher", world_.launcher()},
                                         {"device", describe_device(engine_config_.device)},
                                         {"precision", config_.train.precision},
                                         {"peak_flops", peak_.flops * world_.size()},
                                         {"peak_source", peak_.source},
                                         {"matmul_flops", matmul_flops_ * world_.size()},
                                         {"threads_per_rank", omp_get_max_threads()},
                                         {"version", kVersion},
                                         {"git_revision", kGitRevision},
                                         {"started", utc_now()},
                                         {"cpu", cpu_model_name()}};
    write_file(directory_.run(), json.dump(1) + "\n");
  }

  // After the last step of the trace; collective.
  void write_trace() {
    if (trace_->num_steps() < config_.train.trace_steps && state_.step < total_steps_) return;
    const std::string text = trace_->finish();
    trace_.reset();
    if (!leader()) return;
    try {
      write_file(directory_.trace(), text);
    } catch (const Error& e) {
      log_warning("no trace was written, the run goes on: {}", e.what());
    }
  }

  RunConfig config_;
  World& world_;
  RunDirectory directory_;
  std::optional<RunLock> lock_;  // the leader's
  StopWish stop_wish_;           // its time counts from here
  ParallelDims dims_;
  RunWatch watch_;
  EngineConfig engine_config_;
  std::unique_ptr<Communicator> gpu_ranks_;      // with NCCL
  std::optional<MatmulChoices> matmul_choices_;  // of a GPU with kernels.matmul: auto
  Mesh mesh_;
  int64_t total_steps_;
  RankWatch rank_watch_;
  DataConfig data_;  // the configured one, files of samples replaced by their datasets
  SampleStream train_data_;
  std::vector<SampleStream> valid_data_;
  RunTasks tasks_;
  RunLoader loader_;
  RunOutputs outputs_;
  std::unique_ptr<TrainEngine> engine_;
  std::unique_ptr<RunSaver> saver_;     // of the engine's state
  std::unique_ptr<SpikeGuard> spikes_;  // takes it back
  std::unique_ptr<StepTrace> trace_;    // while steps are recorded
  TrainState state_;
  const char* stop_reason_ = nullptr;  // of this rank
  int64_t stop_votes_ = 0;             // ranks that have one
  double own_loss_ = 0.0;              // of this rank's samples in the last step
  bool save_due_ = false;
  double matmul_flops_ = 0.0;  // of this rank, measured
  PeakFlops peak_;             // of this rank
};

}  // namespace

ExitCode train(const RunConfig& config, World& world) {
  return Trainer(with_tokenizer(config), world).run();
}

}  // namespace forja
