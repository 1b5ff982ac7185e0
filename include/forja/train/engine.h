// SPDX-License-Identifier: Apache-2.0
// One rank's part of the model, optimizer and memory, and what happens in a step. The same for one
// rank and for many: the schedule executor, the parameter store and the communicators know no
// special case.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "forja/checkpoint/checkpoint_writer.h"
#include "forja/comm/flight_record.h"
#include "forja/data/loader.h"
#include "forja/device/gpu_runtime.h"
#include "forja/nn/decoder.h"
#include "forja/parallel/parallel_dims.h"
#include "forja/parallel/parameter_sync.h"
#include "forja/parallel/schedule.h"
#include "forja/train/executor.h"
#include "forja/train/flops.h"
#include "forja/train/optimizer.h"
#include "forja/train/preference.h"

namespace forja {

struct EngineConfig {
  Device device;
  GpuMatmul gpu_matmul = GpuMatmul::automatic;
  MatmulChoices* matmul_choices = nullptr;  // as of a Context; not owned
  FlightRecord* flight_record = nullptr;    // hears what a step does; not owned
  ModelConfig model;
  OptimizerConfig optimizer;
  ParallelConfig parallel;
  ParameterRules rules;
  PreferenceConfig preference;  // of batches of pairs
  DType compute_dtype = DType::f32;
  int64_t micro_batch_size = 1;  // sequences
  int64_t num_microbatches = 1;  // the most that a step has
  int64_t sequence_length = 1024;
  bool document_mask = false;
  int64_t bucket_bytes = int64_t(25) << 20;
  uint64_t seed = 0;
  bool snapshots = false;  // what is saved is copied first, and written while steps go on
};

// Bytes of every arena of a rank; exact: found by running a step without touching data.
struct MemoryPlan {
  int64_t weights = 0, gradients = 0, optimizer = 0, inputs = 0, workspace = 0;
  int64_t snapshot = 0;  // the copy of what this rank saves, on the CPU
  int64_t staging = 0;   // of the host, beside a GPU's, that copy included; not in total()
  // By stage of this rank: the activations of one micro-batch, and how many are alive at most.
  struct Stash {
    int64_t bytes = 0, count = 0;
    bool operator==(const Stash&) const = default;
  };
  std::vector<Stash> stashes;

  int64_t activations() const;
  int64_t total() const {
    return weights + gradients + optimizer + activations() + inputs + workspace + snapshot;
  }
  bool operator==(const MemoryPlan&) const = default;
};

struct StepResult {
  double loss = 0.0;      // mean over the targets, or the pairs, of the global batch
  double own_loss = 0.0;  // of this rank's samples, their sum; 0 where the rank computes none
  double gradient_norm = 0.0;
  bool skipped = false;       // nothing changed: the norm is not finite, or above the limit
  int64_t num_targets = 0;    // global: what the loss is the mean of
  int64_t num_tokens = 0;     // global, padding not counted
  PreferenceSums preference;  // the mean over the global batch's pairs
  int64_t votes = 0;          // ranks whose vote was yes
  FlopsCount flops;           // of this rank's share
  // Seconds by TimeKind, the mean over all ranks: a rank's waits are another's work. All of a step,
  // until every rank has ended it.
  std::array<double, TimeSplit::kKinds> time_s{};
  std::array<double, TimeSplit::kKinds> rank_time_s{};  // of this rank
};

// The layout of `num_ranks` ranks for a model and batch. Throws bad_input, exit code 2, for what
// cannot work: before anything is allocated.
void check_layout(const EngineConfig& config, const ParallelDims& dims);
// What of the model the groups of a mesh depend on.
MeshOptions mesh_options(const EngineConfig& config);

class TrainEngine {
 public:
  // `plan` sizes the arenas; nullptr makes a planning engine. The mesh is not owned.
  TrainEngine(const EngineConfig& config, Mesh& mesh, const MemoryPlan* plan);
  ~TrainEngine();
  // What a real engine of a rank needs. Touches no data and communicates with nobody.
  static MemoryPlan plan(const EngineConfig& config, const ParallelDims& dims = {}, int rank = 0);

  // Before and after the shards of the weights are set from outside (initialised, loaded).
  void weights_will_change() { sync_->finish_publishing(); }
  void weights_changed() { sync_->publish_weights(ParameterSync::Changed::all); }

  // Fills micro-batch m of this rank's data-parallel share and returns the view of the rows of
  // `sequences` in use.
  using Fill = std::function<Tensor(int64_t m, const MicroBatch& batch)>;
  // One optimizer step (numbered from 1) over `num_microbatches` micro-batches; first_row(m) is the
  // global index of the first token of micro-batch m in the step.
  StepResult step(int64_t step, double lr, int64_t num_microbatches, const Fill& fill,
                  const std::function<int64_t(int64_t)>& first_row);

  // Asked at the end of every step; StepResult::votes counts the ranks that say yes.
  void set_vote(std::function<bool()> vote) { vote_ = std::move(vote); }

  struct Evaluation {
    double sum_log_probability = 0.0;
    int64_t num_targets = 0;
    PreferenceSums preference;
  };
  // Sums over every rank.
  Evaluation evaluate(int64_t num_microbatches, const Fill& fill);
  // Log-probabilities and margins (see Head::forward), [N] fp32 on the host, of each micro-batch's
  // targets: on one rank of every dp coordinate, the one where the model ends. Collective; every
  // rank gives as many micro-batches.
  using OnScores =
      std::function<void(int64_t m, const Tensor& log_probabilities, const Tensor& margins)>;
  void score(int64_t num_microbatches, const Fill& fill, const OnScores& on_scores);

  int64_t micro_batch_size() const { return config_.micro_batch_size; }
  const Context& context() const { return context_; }
  ParameterStore& store() { return store_; }
  Optimizer& optimizer() { return *optimizer_; }
  // What this rank saves.
  CheckpointParts& checkpoint_parts() { return *checkpoint_parts_; }
  // For tracing: of every action of a step, and every change of the kind of time; null: no longer.
  void set_listeners(ActionListener on_action, TimeSplit::Listener on_time);
  MemoryPlan memory_used() const;
  const Schedule& schedule(int64_t num_microbatches);

 private:
  struct Slot;
  struct Stage;
  struct Work;

  void make_stages(const MemoryPlan* plan);
  std::vector<std::vector<Tensor>> make_inputs();
  Arena* snapshot_arena();
  void run_planning_step();
  void evaluate_microbatch(int64_t m, bool adapters, const Tensor& margins = {});
  void refer(int64_t num_microbatches);
  void weigh(int64_t m);
  void download_log_probabilities(int64_t m);
  bool has_head() const;
  bool has_scores() const;
  DecoderInput input_of(int64_t step, int64_t m);
  void note(std::string_view activity, int64_t step = -1);
  void note_layer();
  void load_batch(int64_t num_microbatches, const Fill& fill, StepResult& result);
  void fill_coefficients(int64_t num_microbatches, int64_t num_targets);
  double local_loss(int64_t num_microbatches);
  std::vector<Answer> local_answers(int64_t m);
  void finish(StepResult& result, int64_t step);

  EngineConfig config_;
  Mesh* mesh_;
  TimeSplit times_;
  std::unique_ptr<GpuStream> stream_;  // of a GPU
  Arena weights_, gradients_, optimizer_arena_, inputs_, workspace_, snapshot_, staging_;
  Context context_;
  ParameterStore store_;
  double matmul_flops_of_token_;
  std::vector<std::unique_ptr<Stage>> stages_;  // of this rank, ascending
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<CheckpointParts> checkpoint_parts_;
  std::unique_ptr<ParameterSync> sync_;    // after the memory that it moves
  std::map<int64_t, Schedule> schedules_;  // by number of micro-batches
  std::unique_ptr<Work> work_;
  std::unique_ptr<PipelineExecutor> executor_;
  // What the host writes or reads of a micro-batch, and the device reads or writes: the same
  // tensors on the CPU.
  struct Inputs {
    MicroBatch batch;
    Tensor sequences;                        // the used rows of the batch's
    Tensor coefficients, log_probabilities;  // [N] fp32
    int64_t first_row = 0;                   // global index of its first row
  };
  Inputs allocate_inputs(Arena& arena) const;
  void upload(int64_t m);
  std::vector<Inputs> host_inputs_, device_inputs_;  // by micro-batch
  std::vector<std::vector<Answer>> reference_;       // by micro-batch, where this rank has the head
  PreferenceSums preference_;                        // of the step, of this rank
  double pair_weight_ = 0.0;
  std::function<bool()> vote_;
  bool completing_ = false;  // the gradients of the stage that runs
};

}  // namespace forja
