// SPDX-License-Identifier: Apache-2.0
#include "forja/train/engine.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "csrc/train/batch_counts.h"
#include "csrc/train/stage.h"
#include "forja/base/philox.h"
#include "forja/ops/elementwise.h"
#include "forja/parallel/stage_layout.h"

namespace forja {
namespace {

constexpr uint64_t kDropoutStream = 0xD20;

Arena make_arena(const char* name, Device device, const MemoryPlan* plan,
                 int64_t MemoryPlan::*bytes) {
  return plan ? Arena(name, device, plan->*bytes) : Arena(name, device);
}

std::unique_ptr<GpuStream> make_stream(Device device, const MemoryPlan* plan) {
  return plan && !device.is_cpu() ? std::make_unique<GpuStream>(device) : nullptr;
}

StoreOptions store_options(const EngineConfig& config, const Mesh& mesh) {
  return {.compute_dtype = config.compute_dtype,
          .moment_dtype = config.optimizer.moment_dtype(),
          .use = StoreUse::training,
          .tp_rank = mesh.coordinates.tp,
          .tp_size = mesh.dims.tp,
          .zero = int(config.parallel.zero),
          .shard_rank = mesh.shard_rank(),
          .num_shards = mesh.dims.dp_shard,
          .bucket_bytes = config.bucket_bytes,
          .rules = config.rules};
}

int stages_of(const EngineConfig& config) {
  return num_stages(config.parallel.schedule, int(config.parallel.pp),
                    int(config.parallel.virtual_stages));
}

Schedule full_schedule(const EngineConfig& config, int64_t num_microbatches) {
  return make_executor_schedule(config.parallel.schedule, int(config.parallel.pp),
                                int(config.parallel.virtual_stages), int(num_microbatches));
}

bool ends_on_two_ranks(const EngineConfig& config, const Schedule& schedule) {
  return config.model.tie_word_embeddings &&
         schedule.rank_of_stage.front() != schedule.rank_of_stage.back();
}

bool splits_backward(const Schedule& schedule) {
  for (const auto& actions : schedule.actions)
    for (const Action& a : actions)
      if (a.kind == ActionKind::backward_weight) return true;
  return false;
}

}  // namespace

int64_t MemoryPlan::activations() const {
  int64_t sum = 0;
  for (const Stash& s : stashes) sum += s.bytes * s.count;
  return sum;
}

void check_layout(const EngineConfig& config, const ParallelDims& dims) {
  check_tensor_parallel(config.model, dims.tp, config.micro_batch_size * config.sequence_length);
  layers_of_stages(config.parallel, config.model.num_hidden_layers, stages_of(config));
  const auto& layers = config.parallel.layer_recompute;
  if (!layers.empty() && int64_t(layers.size()) != config.model.num_hidden_layers) {
    fail_input("parallel.layer_recompute has {} entries, the model {} layers", layers.size(),
               config.model.num_hidden_layers);
  }
  full_schedule(config, config.num_microbatches);
}

MeshOptions mesh_options(const EngineConfig& config) {
  MeshOptions options{.num_key_value_heads = int(config.model.num_key_value_heads)};
  const Schedule schedule = full_schedule(config, config.num_microbatches);
  if (ends_on_two_ranks(config, schedule)) {
    options.embedding_pp = schedule.rank_of_stage.front();
    options.head_pp = schedule.rank_of_stage.back();
  }
  return options;
}

TrainEngine::TrainEngine(const EngineConfig& config, Mesh& mesh, const MemoryPlan* plan)
    : config_(config),
      mesh_(&mesh),
      stream_(make_stream(config.device, plan)),
      weights_(make_arena("weights", config.device, plan, &MemoryPlan::weights)),
      gradients_(make_arena("gradients", config.device, plan, &MemoryPlan::gradients)),
      optimizer_arena_(make_arena("optimizer", config.device, plan, &MemoryPlan::optimizer)),
      inputs_(make_arena("inputs", config.device, plan, &MemoryPlan::inputs)),
      workspace_(make_arena("workspace", config.device, plan, &MemoryPlan::workspace)),
      snapshot_(make_arena("snapshot", Device{}, plan, &MemoryPlan::snapshot)),
      staging_(make_arena("staging", Device{}, plan, &MemoryPlan::staging)),
      context_{config.device, &workspace_, stream_ ? stream_->handle() : nullptr, config.gpu_matmul,
               config.matmul_choices},
      store_(store_options(config, mesh)),
      matmul_flops_of_token_(matmul_flops_of_token(config.model, config.rules)) {
  for (const Mesh::Group& group : mesh.groups()) group.communicator->use_stream(context_.stream);
  if (stream_) staging_.pin();
  times_.use_stream(context_.stream);
  make_stages(plan);
  store_.allocate_all(weights_, gradients_, optimizer_arena_);
  for (auto& stage : stages_) stage->decoder->allocate_constants(context_, weights_);
  optimizer_ = std::make_unique<Optimizer>(context_, store_, config.optimizer, config.seed,
                                           optimizer_arena_);
  checkpoint_parts_ = std::make_unique<CheckpointParts>(
      store_, CheckpointCopy{mesh.coordinates.dp / mesh.dims.dp_shard, mesh.dims.dp_replicate()},
      snapshot_arena());
  if (config.snapshots) snapshot_.populate();  // a step would wait for it
  sync_ = std::make_unique<ParameterSync>(store_, mesh, times_, weights_, gradients_);
  work_ = std::make_unique<Work>(*this);
  executor_ = std::make_unique<PipelineExecutor>(schedule(config.num_microbatches), *mesh.pp,
                                                 context_, times_, *work_, make_inputs());
  if (config.flight_record)
    executor_->set_begin_listener([this](const Action& action) { note(action.in_words()); });
  for (auto& stage : stages_) {
    stage->decoder->set_hooks(
        {[this](int64_t layer, int64_t next) {
           note_layer();
           sync_->use_layer(int(layer), int(next));
         },
         [this](int64_t layer) { sync_->begin_gradient(context_, int(layer)); },
         [this](int64_t layer) { sync_->end_gradient(context_, int(layer), completing_); }});
  }
}

TrainEngine::~TrainEngine() = default;

void TrainEngine::note(std::string_view activity, int64_t step) {
  if (config_.flight_record) config_.flight_record->set_activity(activity, step);
}

void TrainEngine::note_layer() {
  if (config_.flight_record) config_.flight_record->progressed();
}

void TrainEngine::make_stages(const MemoryPlan* plan) {
  const Schedule& s = schedule(config_.num_microbatches);
  const auto layers =
      layers_of_stages(config_.parallel, config_.model.num_hidden_layers, s.num_stages());
  const TensorParallel tp(*mesh_->tp, times_);
  for (int index : s.stages_of_rank(mesh_->coordinates.pp)) {
    auto stage = std::make_unique<Stage>();
    stage->index = index;
    const StageRange range{index,      layers[size_t(index)].first, layers[size_t(index)].second,
                           index == 0, index + 1 == s.num_stages(), ends_on_two_ranks(config_, s)};
    stage->decoder = std::make_unique<Decoder>(store_, config_.model, config_.sequence_length,
                                               range, tp, config_.parallel);
    const StageNeeds needs = needs_of_stage(s, index);
    stage->slots.resize(size_t(needs.slots));
    const size_t local = stages_.size();
    for (Slot& slot : stage->slots) {
      slot.arena =
          plan ? std::make_unique<Arena>("activations", config_.device, plan->stashes[local].bytes)
               : std::make_unique<Arena>("activations", config_.device);
    }
    stages_.push_back(std::move(stage));
  }
}

// A GPU's state is copied to the host, whatever waits for it.
Arena* TrainEngine::snapshot_arena() {
  if (!config_.snapshots) return nullptr;
  return config_.device.is_cpu() ? &snapshot_ : &staging_;
}

// ... and the buffers of each stage of this rank for inputs from another one.
std::vector<std::vector<Tensor>> TrainEngine::make_inputs() {
  const int64_t rows = config_.micro_batch_size * config_.sequence_length;
  for (int64_t m = 0; m < config_.num_microbatches; ++m) {
    device_inputs_.push_back(allocate_inputs(inputs_));
    host_inputs_.push_back(config_.device.is_cpu() ? device_inputs_.back()
                                                   : allocate_inputs(staging_));
  }
  std::vector<std::vector<Tensor>> receive_buffers;
  for (auto& stage : stages_) {
    const StageNeeds needs = needs_of_stage(schedule(config_.num_microbatches), stage->index);
    auto& buffers = receive_buffers.emplace_back();
    for (int i = 0; i < needs.receive_buffers; ++i)
      buffers.push_back(allocate(inputs_, config_.compute_dtype,
                                 {rows / mesh_->dims.tp, config_.model.hidden_size}));
  }
  return receive_buffers;
}

TrainEngine::Inputs TrainEngine::allocate_inputs(Arena& arena) const {
  const int64_t rows = config_.micro_batch_size * config_.sequence_length;
  Inputs out;
  out.batch = allocate_micro_batch(arena, config_.micro_batch_size, config_.sequence_length,
                                   config_.document_mask);
  out.sequences = out.batch.sequences;
  out.coefficients = allocate(arena, DType::f32, {rows});
  out.log_probabilities = allocate(arena, DType::f32, {rows});
  return out;
}

// What the host has written of micro-batch m, to the device.
void TrainEngine::upload(int64_t m) {
  const Inputs& host = host_inputs_[size_t(m)];
  Inputs& device = device_inputs_[size_t(m)];
  const auto copy = [&](const Tensor& to, const Tensor& from) {
    copy_bytes(context_, to.data, from.data, from.num_bytes());
  };
  device.sequences = device.batch.sequences.slice(0, 0, host.sequences.size(0));
  device.first_row = host.first_row;
  copy(device.batch.tokens, host.batch.tokens);
  copy(device.batch.targets, host.batch.targets);
  copy(device.batch.positions, host.batch.positions);
  copy(device.sequences, host.sequences);
  copy(device.coefficients, host.coefficients);
}

const Schedule& TrainEngine::schedule(int64_t num_microbatches) {
  const auto found = schedules_.find(num_microbatches);
  if (found != schedules_.end()) return found->second;
  return schedules_.emplace(num_microbatches, full_schedule(config_, num_microbatches))
      .first->second;
}

void TrainEngine::set_listeners(ActionListener on_action, TimeSplit::Listener on_time) {
  executor_->set_listener(std::move(on_action));
  times_.set_listener(std::move(on_time));
}

// ---- Planning

MemoryPlan TrainEngine::plan(const EngineConfig& config, const ParallelDims& dims, int rank) {
  Mesh mesh = make_planning_mesh(dims, rank, mesh_options(config));
  TrainEngine engine(config, mesh, nullptr);
  engine.run_planning_step();
  return engine.memory_used();
}

void TrainEngine::run_planning_step() {
  const int64_t rows = config_.micro_batch_size * config_.sequence_length;
  const bool splits = splits_backward(schedule(config_.num_microbatches));
  for (auto& stage : stages_) {
    Slot& slot = stage->slots[0];
    const DecoderInput input = input_of(1, 0);
    stage->decoder->allocate_transfers(*slot.arena, rows, slot.stash);
    if (!stage->decoder->range().has_embedding)
      slot.stash.input =
          make_tensor(nullptr, config_.compute_dtype,
                      {rows / mesh_->dims.tp, config_.model.hidden_size}, config_.device);
    stage->decoder->forward(context_, *slot.arena, input, slot.stash,
                            device_inputs_[0].log_probabilities);
    const int64_t mark = slot.arena->mark();
    stage->decoder->backward(context_, workspace_, input, slot.stash, BackwardPart::both);
    if (!splits) continue;
    slot.arena->release(mark);
    stage->decoder->backward(context_, *slot.arena, input, slot.stash, BackwardPart::input);
    stage->decoder->backward(context_, workspace_, input, slot.stash, BackwardPart::weight);
  }
  sync_->finish_gradients(context_);
  optimizer_->step(context_, 1.0, *mesh_->copy, times_);
  evaluate_microbatch(0, true);
}

MemoryPlan TrainEngine::memory_used() const {
  MemoryPlan plan{weights_.peak_bytes(),         gradients_.peak_bytes(),
                  optimizer_arena_.peak_bytes(), inputs_.peak_bytes(),
                  workspace_.peak_bytes(),       snapshot_.peak_bytes(),
                  staging_.peak_bytes(),         {}};
  for (const auto& stage : stages_) {
    int64_t bytes = 0;
    for (const Slot& slot : stage->slots) bytes = std::max(bytes, slot.arena->peak_bytes());
    plan.stashes.push_back({bytes, int64_t(stage->slots.size())});
  }
  return plan;
}

// ---- A step

DecoderInput TrainEngine::input_of(int64_t step, int64_t m) {
  const Inputs& in = device_inputs_[size_t(m)];
  DecoderInput input{in.batch.tokens, in.batch.targets, in.coefficients, {}};
  input.rows.positions = in.batch.positions;
  input.rows.sequences = in.sequences;
  input.rows.first_row = in.first_row;
  // What a pair is worth is found by what the model says without dropout.
  if (!config_.preference.is_on()) {
    input.rows.dropout_key = mix_key(mix_key(config_.seed, kDropoutStream), uint64_t(step));
  } else {
    input.weigh = [this, m] { weigh(m); };
  }
  return input;
}

void TrainEngine::load_batch(int64_t num_microbatches, const Fill& fill, StepResult& result) {
  FORJA_CHECK(num_microbatches <= int64_t(host_inputs_.size()), "{} micro-batches, room for {}",
              num_microbatches, host_inputs_.size());
  int64_t counts[3] = {0, 0, 0};  // targets, tokens, pairs
  for (int64_t m = 0; m < num_microbatches; ++m) {
    Inputs& in = host_inputs_[size_t(m)];
    in.sequences = fill(m, in.batch);
    counts[0] += num_targets_of(in.batch);
    counts[1] += num_tokens_of(in.batch);
    counts[2] += without_padding(in.batch, in.sequences).size(0) / 2;
  }
  times_.wait(mesh_->dp->all_reduce(make_tensor(counts, DType::i64, {3}), ReduceOp::sum,
                                    {"number of targets"}),
              TimeKind::wait_dp);
  result.num_targets = counts[0];
  result.num_tokens = counts[1];
  pair_weight_ = counts[2] > 0 ? 1.0 / double(counts[2]) : 0.0;
}

void TrainEngine::fill_coefficients(int64_t num_microbatches, int64_t num_targets) {
  const float weight = num_targets > 0 ? float(1.0 / double(num_targets)) : 0.0f;
  for (int64_t m = 0; m < num_microbatches; ++m) {
    const Inputs& in = host_inputs_[size_t(m)];
    const int32_t* target = in.batch.targets.ptr<int32_t>();
    float* coefficient = in.coefficients.ptr<float>();
    for (int64_t i = 0; i < in.coefficients.size(0); ++i)
      coefficient[i] = target[i] >= 0 ? weight : 0.0f;
  }
}

// The sum over the micro-batches, where this rank has the head; every tensor-parallel rank of the
// last stage has the whole of it. Waits for the device.
double TrainEngine::local_loss(int64_t num_microbatches) {
  const bool counts = has_scores();
  for (int64_t m = 0; m < num_microbatches && counts; ++m) download_log_probabilities(m);
  synchronize(context_);
  if (config_.preference.is_on()) return preference_.loss;
  double loss = 0.0;
  for (int64_t m = 0; m < num_microbatches && counts; ++m) {
    const Tensor& values = host_inputs_[size_t(m)].log_probabilities;
    for (int64_t i = 0; i < values.size(0); ++i) loss -= double(values.ptr<float>()[i]);
  }
  return loss;
}

StepResult TrainEngine::step(int64_t step, double lr, int64_t num_microbatches, const Fill& fill,
                             const std::function<int64_t(int64_t)>& first_row) {
  const ProfilerRange range("step");
  StepResult result;
  times_.reset();
  sync_->set_step(step);
  {
    note("reading the batch", step);
    const TimeSplit::Scope time(times_, TimeKind::data);
    load_batch(num_microbatches, fill, result);
    fill_coefficients(num_microbatches, result.num_targets);
    for (int64_t m = 0; m < num_microbatches; ++m) {
      host_inputs_[size_t(m)].first_row = first_row(m);
      upload(m);
    }
  }
  {
    const TimeSplit::Scope time(times_, TimeKind::optimizer);
    store_.clear_gradients(context_);
  }
  sync_->use_others();
  preference_ = {};
  if (config_.preference.is_on()) refer(num_microbatches);
  work_->step = step;
  executor_->run(schedule(num_microbatches), step);
  note("optimizer");
  {
    const TimeSplit::Scope time(times_, TimeKind::optimizer);
    sync_->finish_gradients(context_);
    optimizer_->step(context_, lr, *mesh_->copy, times_);
    sync_->publish_weights(ParameterSync::Changed::trained);
  }
  note("waiting for the end of the step");
  result.loss = result.own_loss = local_loss(num_microbatches);
  result.gradient_norm = optimizer_->gradient_norm();
  result.skipped = optimizer_->skipped();
  for (int64_t m = 0; m < num_microbatches; ++m) {
    const double share = 1.0 / (mesh_->dims.pp * mesh_->dims.tp);
    const Inputs& in = host_inputs_[size_t(m)];
    const FlopsCount flops = training_flops(
        config_.model, config_.parallel, matmul_flops_of_token_, num_tokens_of(in.batch),
        without_padding(in.batch, in.sequences), config_.sequence_length);
    result.flops.attended += share * flops.attended;
    result.flops.full_attention += share * flops.full_attention;
    result.flops.recomputed += share * flops.recomputed;
  }
  finish(result, step);
  return result;
}

// The sums over ranks: of the loss, and, once all ranks have met there, of where their time went.
void TrainEngine::finish(StepResult& result, int64_t step) {
  const auto sum = [&](double* values, size_t count) {
    const Tensor x = make_tensor(values, DType::f64, {int64_t(count)});
    mesh_->world->all_reduce(x, ReduceOp::sum, {"loss and times", step}).wait();
  };
  // The norm is the first rank's: copies of the model may sum it in another order (nccl), and what
  // is decided by it must be the same everywhere.
  const bool first = mesh_->world->rank() == 0;
  double values[7] = {result.loss,
                      vote_ && vote_() ? 1.0 : 0.0,
                      first ? result.gradient_norm : 0.0,
                      preference_.chosen_reward,
                      preference_.rejected_reward,
                      preference_.num_accurate,
                      preference_.num_pairs};
  sum(values, std::size(values));
  result.votes = int64_t(values[1]);
  result.gradient_norm = values[2];
  result.preference = PreferenceSums{values[0], values[3], values[4], values[5], values[6]}.mean();
  result.loss = config_.preference.is_on()
                    ? result.preference.loss
                    : values[0] / double(std::max<int64_t>(result.num_targets, 1));
  times_.finish();
  for (size_t i = 0; i < TimeSplit::kKinds; ++i) {
    result.rank_time_s[i] = times_.seconds(TimeKind(i));
    result.time_s[i] = result.rank_time_s[i] / double(mesh_->dims.world_size());
  }
  sum(result.time_s.data(), result.time_s.size());
}

}  // namespace forja
