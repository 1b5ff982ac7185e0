// SPDX-License-Identifier: Apache-2.0
#include "forja/train/engine.h"

#include <chrono>
#include <cmath>

#include "forja/base/philox.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {

// Adds the seconds of its life to a counter.
class Timer {
 public:
  explicit Timer(double& total) : total_(total), begin_(std::chrono::steady_clock::now()) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  double& total_;
  std::chrono::steady_clock::time_point begin_;
};

std::vector<Action> actions_of_one_stage(int64_t num_microbatches) {
  std::vector<Action> actions;
  for (int m = 0; m < int(num_microbatches); ++m) {
    actions.push_back({ActionKind::forward, 0, m});
    actions.push_back({ActionKind::backward, 0, m});
  }
  actions.push_back({ActionKind::reduce_gradients, 0});
  return actions;
}

constexpr uint64_t kDropoutStream = 0xD20;

template <class Make>
auto arena(const char* name, const MemoryPlan* plan, Make bytes) {
  return plan ? Arena(name, Device{}, bytes(*plan)) : Arena(name);
}

}  // namespace

TrainEngine::TrainEngine(const EngineConfig& config, Mesh& mesh, const MemoryPlan* plan)
    : config_(config),
      mesh_(&mesh),
      weights_(arena("weights", plan, [](const MemoryPlan& p) { return p.weights; })),
      gradients_(arena("gradients", plan, [](const MemoryPlan& p) { return p.gradients; })),
      optimizer_arena_(arena("optimizer", plan, [](const MemoryPlan& p) { return p.optimizer; })),
      activations_(arena("activations", plan, [](const MemoryPlan& p) { return p.activations; })),
      inputs_(arena("inputs", plan, [](const MemoryPlan& p) { return p.inputs; })),
      workspace_(arena("workspace", plan, [](const MemoryPlan& p) { return p.workspace; })),
      context_{Device{}, &workspace_},
      store_(config.compute_dtype, StoreUse::training),
      decoder_(store_, config.model, config.sequence_length) {
  store_.allocate_all(weights_, gradients_, optimizer_arena_);
  decoder_.allocate_constants(weights_);
  optimizer_ = std::make_unique<Optimizer>(store_, config.optimizer, optimizer_arena_);
  reducer_ = std::make_unique<GradientReducer>(store_, *mesh.gradient, config.bucket_bytes);
  const int64_t rows = config.micro_batch_size * config.sequence_length;
  for (int64_t m = 0; m < config.num_microbatches; ++m) {
    batch_.push_back(allocate_micro_batch(inputs_, config.micro_batch_size, config.sequence_length,
                                          config.document_mask));
    sequences_.push_back(batch_.back().sequences);
    coefficients_.push_back(allocate(inputs_, DType::f32, {rows}));
    log_probabilities_.push_back(allocate(inputs_, DType::f32, {rows}));
  }
}

MemoryPlan TrainEngine::plan(const EngineConfig& config) {
  const auto self = make_self_communicator();
  Mesh mesh = make_mesh(*self, ParallelDims{});
  TrainEngine engine(config, mesh, nullptr);
  engine.run_planning_step();
  return engine.memory_used();
}

void TrainEngine::run_planning_step() {
  const auto nothing = [](int) {};
  decoder_.forward(context_, activations_, input_of(1, 0, 0), stash_, log_probabilities_[0]);
  decoder_.backward(context_, input_of(1, 0, 0), stash_, nothing);
  optimizer_->step(context_, 1.0);
  decoder_.evaluate(context_, input_of(1, 0, 0), log_probabilities_[0]);
}

MemoryPlan TrainEngine::memory_used() const {
  return {weights_.peak_bytes(),     gradients_.peak_bytes(), optimizer_arena_.peak_bytes(),
          activations_.peak_bytes(), inputs_.peak_bytes(),    workspace_.peak_bytes()};
}

DecoderInput TrainEngine::input_of(int64_t step, int64_t m, int64_t first_row) const {
  const MicroBatch& b = batch_[size_t(m)];
  DecoderInput input{b.tokens, b.targets, coefficients_[size_t(m)], {}};
  input.rows.positions = b.positions;
  input.rows.sequences = sequences_[size_t(m)];
  input.rows.dropout_key = mix_key(mix_key(config_.seed, kDropoutStream), uint64_t(step));
  input.rows.first_row = first_row;
  return input;
}

void TrainEngine::forward(int64_t step, int64_t m, int64_t first_row) {
  activations_.release(0);
  decoder_.forward(context_, activations_, input_of(step, m, first_row), stash_,
                   log_probabilities_[size_t(m)]);
}

void TrainEngine::backward(int64_t step, int64_t m, int64_t first_row, bool reduces) {
  decoder_.backward(context_, input_of(step, m, first_row), stash_, [&](int unit) {
    if (reduces) reducer_->unit_ready(unit, step);
  });
}

int64_t TrainEngine::load_batch(int64_t num_microbatches, const Fill& fill) {
  FORJA_CHECK(num_microbatches <= int64_t(batch_.size()), "{} micro-batches, room for {}",
              num_microbatches, batch_.size());
  int64_t num_targets = 0;
  for (int64_t m = 0; m < num_microbatches; ++m) {
    const MicroBatch& b = batch_[size_t(m)];
    sequences_[size_t(m)] = fill(m, b);
    for (int64_t i = 0; i < b.targets.size(0); ++i) num_targets += b.targets.ptr<int32_t>()[i] >= 0;
  }
  mesh_->gradient
      ->all_reduce(make_tensor(&num_targets, DType::i64, {1}), ReduceOp::sum, {"number of targets"})
      .wait();
  return num_targets;
}

void TrainEngine::fill_coefficients(int64_t num_microbatches, int64_t num_targets) {
  const float weight = num_targets > 0 ? float(1.0 / double(num_targets)) : 0.0f;
  for (int64_t m = 0; m < num_microbatches; ++m) {
    const int32_t* target = batch_[size_t(m)].targets.ptr<int32_t>();
    float* coefficient = coefficients_[size_t(m)].ptr<float>();
    for (int64_t i = 0; i < coefficients_[size_t(m)].size(0); ++i)
      coefficient[i] = target[i] >= 0 ? weight : 0.0f;
  }
}

void TrainEngine::clear_gradients() { fill_zero(context_, store_.all_gradients()); }

StepResult TrainEngine::step(int64_t step, double lr, int64_t num_microbatches, const Fill& fill,
                             const std::function<int64_t(int64_t)>& first_row) {
  StepResult result;
  {
    Timer timer(result.times.data);
    result.num_targets = load_batch(num_microbatches, fill);
    fill_coefficients(num_microbatches, result.num_targets);
  }
  {
    Timer timer(result.times.optimizer);
    clear_gradients();
  }
  double loss = 0.0;
  for (const Action& action : actions_of_one_stage(num_microbatches)) {
    const int64_t m = action.microbatch;
    if (action.kind == ActionKind::forward) {
      Timer timer(result.times.forward);
      forward(step, m, first_row(m));
      const MicroBatch& b = batch_[size_t(m)];
      for (int64_t i = 0; i < b.tokens.size(0); ++i)
        loss -= log_probabilities_[size_t(m)].ptr<float>()[i];
      const FlopsCount flops = training_flops(config_.model, b.tokens.size(0),
                                              sequences_[size_t(m)], config_.sequence_length);
      result.flops.attended += flops.attended;
      result.flops.full_attention += flops.full_attention;
    } else if (action.kind == ActionKind::backward) {
      Timer timer(result.times.backward);
      backward(step, m, first_row(m), m + 1 == num_microbatches);
    } else {
      Timer timer(result.times.communication);
      reducer_->finish();
    }
  }
  {
    Timer timer(result.times.optimizer);
    optimizer_->step(context_, lr);
    result.gradient_norm = optimizer_->gradient_norm();
    result.skipped = !std::isfinite(result.gradient_norm);
  }
  Timer timer(result.times.communication);
  mesh_->gradient->all_reduce(make_tensor(&loss, DType::f64, {1}), ReduceOp::sum, {"loss", step})
      .wait();
  result.loss = loss / double(std::max<int64_t>(result.num_targets, 1));
  return result;
}

TrainEngine::Evaluation TrainEngine::evaluate(int64_t num_microbatches, const Fill& fill) {
  double sums[2] = {0.0, 0.0};  // log-probability, targets
  for (int64_t m = 0; m < num_microbatches; ++m) {
    const MicroBatch& b = batch_[0];
    sequences_[0] = fill(m, b);
    decoder_.evaluate(context_, input_of(0, 0, 0), log_probabilities_[0]);
    for (int64_t i = 0; i < b.targets.size(0); ++i) {
      sums[0] += log_probabilities_[0].ptr<float>()[i];
      sums[1] += b.targets.ptr<int32_t>()[i] >= 0;
    }
  }
  mesh_->gradient->all_reduce(make_tensor(sums, DType::f64, {2}), ReduceOp::sum, {"evaluation"})
      .wait();
  return {sums[0], int64_t(sums[1])};
}

std::string TrainEngine::first_non_finite_gradient() const {
  for (const auto& p : store_.all()) {
    if (!p->gradient.defined()) continue;
    const int64_t at = find_non_finite(context_, p->gradient);
    if (at >= 0)
      return fmt::format("{}, element {} of {}", p->spec.name, at, p->gradient.num_elements());
  }
  return "";
}

}  // namespace forja
