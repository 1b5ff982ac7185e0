// SPDX-License-Identifier: Apache-2.0
// One rank's model, optimizer and memory, and what happens in a step. The same for one rank and for
// many: the schedule executor, the parameter store and the communicators know no special case.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "forja/data/loader.h"
#include "forja/nn/decoder.h"
#include "forja/parallel/gradient_reducer.h"
#include "forja/parallel/parallel_dims.h"
#include "forja/parallel/schedule.h"
#include "forja/train/flops.h"
#include "forja/train/optimizer.h"

namespace forja {

struct EngineConfig {
  ModelConfig model;
  OptimizerConfig optimizer;
  DType compute_dtype = DType::f32;
  int64_t micro_batch_size = 1;  // sequences
  int64_t num_microbatches = 1;  // the most that a step has
  int64_t sequence_length = 1024;
  bool document_mask = false;
  int64_t bucket_bytes = int64_t(25) << 20;
  uint64_t seed = 0;
};

// Bytes of every arena of a rank; exact: found by running a step without touching data.
struct MemoryPlan {
  int64_t weights = 0, gradients = 0, optimizer = 0, activations = 0, inputs = 0, workspace = 0;
  int64_t total() const {
    return weights + gradients + optimizer + activations + inputs + workspace;
  }
};

// Seconds of a step by what the rank did or waited for.
struct StepTimes {
  double data = 0, forward = 0, backward = 0, communication = 0, optimizer = 0;
};

struct StepResult {
  double loss = 0.0;  // mean over the targets of the global batch
  double gradient_norm = 0.0;
  bool skipped = false;     // non-finite gradients: nothing changed
  int64_t num_targets = 0;  // global
  FlopsCount flops;         // of this rank
  StepTimes times;
};

class TrainEngine {
 public:
  // `plan` sizes the arenas; nullptr makes a planning engine. The mesh is not owned.
  TrainEngine(const EngineConfig& config, Mesh& mesh, const MemoryPlan* plan);
  // What a real engine needs. Touches no data and communicates with nobody.
  static MemoryPlan plan(const EngineConfig& config);

  // Fills micro-batch m of this rank and returns the view of the rows of `sequences` in use.
  using Fill = std::function<Tensor(int64_t m, const MicroBatch& batch)>;
  // One optimizer step (numbered from 1) over `num_microbatches` micro-batches; first_row(m) is the
  // global index of the first token of micro-batch m in the step.
  StepResult step(int64_t step, double lr, int64_t num_microbatches, const Fill& fill,
                  const std::function<int64_t(int64_t)>& first_row);

  struct Evaluation {
    double sum_log_probability = 0.0;
    int64_t num_targets = 0;
  };
  // Sums over every rank.
  Evaluation evaluate(int64_t num_microbatches, const Fill& fill);

  // The first parameter, in the order of the model, whose gradient is not finite:
  // "layers.3.mlp.up.weight, element 17".
  std::string first_non_finite_gradient() const;

  const Context& context() const { return context_; }
  ParameterStore& store() { return store_; }
  Optimizer& optimizer() { return *optimizer_; }
  MemoryPlan memory_used() const;

 private:
  void run_planning_step();
  void forward(int64_t step, int64_t m, int64_t first_row);
  void backward(int64_t step, int64_t m, int64_t first_row, bool reduces);
  DecoderInput input_of(int64_t step, int64_t m, int64_t first_row) const;
  int64_t load_batch(int64_t num_microbatches, const Fill& fill);
  void fill_coefficients(int64_t num_microbatches, int64_t num_targets);
  void clear_gradients();

  EngineConfig config_;
  Mesh* mesh_;
  Arena weights_, gradients_, optimizer_arena_, activations_, inputs_, workspace_;
  Context context_;
  ParameterStore store_;
  Decoder decoder_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<GradientReducer> reducer_;
  std::vector<MicroBatch> batch_;
  // By micro-batch: the used rows of its sequences; [N] fp32.
  std::vector<Tensor> sequences_, coefficients_, log_probabilities_;
  DecoderStash stash_;
};

}  // namespace forja
