// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/parameter_sync.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>

#include "forja/base/error.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {

constexpr std::chrono::seconds kMoment{1};

}  // namespace

ParameterSync::ParameterSync(ParameterStore& store, Mesh& mesh, TimeSplit& times, Arena& weights,
                             Arena& gradients)
    : store_(store), mesh_(mesh), times_(times), published_(store.buckets().size()) {
  add_layers(true, weights, gradients);
  add_layers(false, weights, gradients);
}

void ParameterSync::add_layers(bool trained, Arena& weights, Arena& gradients) {
  LayerWeights& layers = trained ? trained_ : frozen_;
  int64_t largest = 0;
  bool shards_weights = false, shards_gradients = false;
  for (Bucket& b : store_.buckets()) {
    if (b.kind != UnitKind::layer || b.trained != trained) continue;
    if (int(layers.bucket_of.size()) <= b.last_unit)
      layers.bucket_of.resize(size_t(b.last_unit) + 1);
    for (int unit = b.first_unit; unit <= b.last_unit; ++unit) layers.bucket_of[size_t(unit)] = &b;
    largest = std::max(largest, b.num_elements);
    shards_weights |= b.shards_weights;
    shards_gradients |= b.shards_gradients;
  }
  // One in use, one on the way.
  if (shards_weights) {
    layers.slots.resize(2);
    for (WeightSlot& s : layers.slots)
      s.memory = allocate(weights, store_.compute_dtype(), {largest});
  }
  if (shards_gradients) {
    gradient_slots_.resize(2);
    for (GradientSlot& s : gradient_slots_) {
      s.memory = allocate(gradients, DType::f32, {largest});
      s.reduced = allocate(gradients, DType::f32, {largest / store_.options().num_shards});
    }
  }
}

// What is under way uses memory that ends after this. While an error ends the run, it may wait for
// a rank that is gone: then it has a moment, which is enough where all ranks have met the error.
ParameterSync::~ParameterSync() {
  std::vector<Event> events = published_;
  for (const LayerWeights* layers : {&trained_, &frozen_})
    for (const WeightSlot& slot : layers->slots) events.push_back(slot.gathered);
  for (const GradientSlot& slot : gradient_slots_) events.push_back(slot.done);
  for (const Reduction& reduction : reductions_) events.push_back(reduction.scattered);
  const bool failed = std::uncaught_exceptions() > 0;
  const auto end = std::chrono::steady_clock::now() + kMoment;
  for (const Event& event : events) {
    while (failed && !event.done() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (failed && !event.done()) return;
    try {
      event.wait();
    } catch (...) {  // told to whoever uses the weights; nobody does any more
    }
  }
}

// ---- Weights

ParameterSync::WeightSlot* ParameterSync::LayerWeights::resident(const Bucket& bucket) {
  for (WeightSlot& slot : slots)
    if (slot.bucket == &bucket) return &slot;
  return nullptr;
}

// Takes a slot that does not hold `keep`.
ParameterSync::WeightSlot& ParameterSync::fetch(LayerWeights& weights, Bucket& bucket,
                                                const Bucket* keep) {
  WeightSlot& slot = weights.slots[weights.slots[0].bucket == keep && keep ? 1 : 0];
  times_.wait(slot.gathered, TimeKind::wait_dp);
  if (slot.bucket) slot.bucket->attach_weights(nullptr);
  slot.bucket = &bucket;
  bucket.attach_weights(slot.memory.data);
  slot.gathered = mesh_.dp_shard->all_gather(bucket.weight_shard, bucket.weights,
                                             {"weights", step_, bucket.first_unit});
  return slot;
}

void ParameterSync::use_layer(int layer, int next) {
  use_layer(frozen_, layer, next);
  use_layer(trained_, layer, next);
}

void ParameterSync::use_layer(LayerWeights& weights, int layer, int next) {
  Bucket* bucket = weights.bucket(layer);
  if (!bucket) return;
  if (!bucket->shards_weights) {
    times_.wait(published_[size_t(index_of(*bucket))], TimeKind::wait_dp);
    return;
  }
  WeightSlot* slot = weights.resident(*bucket);
  if (!slot) slot = &fetch(weights, *bucket, nullptr);
  Bucket* ahead = weights.bucket(next);
  if (ahead && !bucket->has_unit(next) && !weights.resident(*ahead)) fetch(weights, *ahead, bucket);
  times_.wait(slot->gathered, TimeKind::wait_dp);
}

void ParameterSync::use_others() {
  for (const Bucket& b : store_.buckets()) {
    if (b.kind != UnitKind::layer) times_.wait(published_[size_t(index_of(b))], TimeKind::wait_dp);
  }
}

void ParameterSync::publish_weights(Changed changed) {
  const auto forget = [this](LayerWeights& layers) {
    for (WeightSlot& slot : layers.slots) {
      times_.wait(slot.gathered, TimeKind::wait_dp);
      if (slot.bucket) slot.bucket->attach_weights(nullptr);
      slot = {slot.memory, nullptr, {}};
    }
  };
  forget(trained_);
  if (changed == Changed::all) forget(frozen_);
  for (Bucket& b : store_.buckets()) {
    if (b.shards_weights || (changed == Changed::trained && !b.trained)) continue;
    published_[size_t(index_of(b))] =
        mesh_.dp_shard->all_gather(b.weight_shard, b.weights, {"weights", step_, b.first_unit});
  }
}

void ParameterSync::finish_publishing() {
  for (const Event& published : published_) times_.wait(published, TimeKind::wait_dp);
}

// ---- Gradients

// What a reduction left in a slot joins the shard's sum.
void ParameterSync::settle(const Context& ctx, GradientSlot& slot) {
  if (!slot.in_flight) return;
  times_.wait(slot.done, TimeKind::wait_dp);
  const Tensor sum = slot.bucket->gradient_shard;
  add(ctx, sum, slot.reduced.slice(0, 0, sum.size(0)), sum);
  slot.in_flight = false;
  slot.bucket = nullptr;
}

ParameterSync::GradientSlot& ParameterSync::gradient_slot(const Context& ctx, Bucket& bucket) {
  for (GradientSlot& slot : gradient_slots_)
    if (slot.bucket == &bucket && !slot.in_flight) return slot;
  // A free one, or the one whose reduction began first: they are used by turns.
  GradientSlot& slot =
      gradient_slots_[0].bucket == nullptr ? gradient_slots_[0] : gradient_slots_[1];
  if (slot.bucket) {
    settle(ctx, gradient_slots_[0]);
    std::swap(gradient_slots_[0], gradient_slots_[1]);
    return gradient_slot(ctx, bucket);
  }
  slot.bucket = &bucket;
  bucket.attach_gradients(slot.memory.data);
  fill_zero(ctx, bucket.gradients);
  return slot;
}

void ParameterSync::begin_gradient(const Context& ctx, int layer) {
  Bucket* bucket = trained_bucket(layer);
  if (bucket && bucket->shards_gradients) gradient_slot(ctx, *bucket);
}

void ParameterSync::end_gradient(const Context& ctx, int layer, bool complete) {
  if (!trained_bucket(layer)) return;
  Bucket& bucket = *trained_bucket(layer);
  if (layer != bucket.first_unit) return;
  if (!bucket.shards_gradients) {
    if (complete) reduce(bucket);
    return;
  }
  GradientSlot& slot = gradient_slot(ctx, bucket);
  slot.done = mesh_.dp_shard->reduce_scatter(
      bucket.gradients, slot.reduced.slice(0, 0, bucket.gradient_shard.size(0)), ReduceOp::sum,
      {"gradients", step_, bucket.first_unit});
  slot.in_flight = true;
  bucket.attach_gradients(nullptr);
  if (complete) reductions_.push_back({&bucket, {}});
}

void ParameterSync::stage_complete(int stage) {
  for (Bucket& b : store_.buckets())
    if (b.stage == stage && b.kind != UnitKind::layer && b.trained) reduce(b);
}

void ParameterSync::reduce(Bucket& bucket) {
  const CommLabel label{"gradients", step_, bucket.first_unit};
  // Of one shard, the scattering is nothing and the sum over copies can begin now.
  if (mesh_.dp_shard->size() == 1) {
    reductions_.push_back(
        {&bucket, mesh_.dp_replicate->all_reduce(bucket.gradient_shard, ReduceOp::sum, label),
         true});
    return;
  }
  reductions_.push_back(
      {&bucket, mesh_.dp_shard->reduce_scatter(bucket.gradients, bucket.gradient_shard,
                                               ReduceOp::sum, label)});
}

// The ranks of each group have the same shard of the bucket: only that is summed, and once a step.
void ParameterSync::sum_shared_parts(Bucket& bucket, std::vector<SharedSum>& sums) {
  const auto sum = [&](Communicator& group, const Tensor& part, TimeKind kind, const char* what) {
    sums.push_back({group.all_reduce(part, ReduceOp::sum, {what, step_, bucket.first_unit}), kind});
  };
  if (bucket.kind == UnitKind::replicated && mesh_.tp->size() > 1)
    sum(*mesh_.tp, bucket.gradient_shard, TimeKind::wait_tp, "replicated gradients");
  if (bucket.kind == UnitKind::vocabulary && bucket.parameters[0]->spec.tied &&
      mesh_.embedding->size() > 1)
    sum(*mesh_.embedding, bucket.gradient_shard, TimeKind::wait_pp, "tied gradients");
  if (bucket.kind != UnitKind::layer || mesh_.key_value->size() == 1) return;
  for (const Parameter* p : bucket.parameters) {
    for (const LocalBlock::Rows& rows : p->block.row_ranges) {
      const int64_t begin = std::max(p->begin, rows.local * p->block.columns),
                    end = std::min(p->end, (rows.local + rows.count) * p->block.columns);
      if (rows.copies == 1 || begin >= end) continue;
      sum(*mesh_.key_value, p->reduced_gradient.slice(0, begin - p->begin, end - p->begin),
          TimeKind::wait_tp, "key-value gradients");
    }
  }
}

void ParameterSync::finish_gradients(const Context& ctx) {
  for (GradientSlot& slot : gradient_slots_) settle(ctx, slot);
  std::vector<Event> copies;
  for (const Reduction& r : reductions_) {
    times_.wait(r.scattered, TimeKind::wait_dp);
    if (!r.over_copies && mesh_.dp_replicate->size() > 1) {
      copies.push_back(
          mesh_.dp_replicate->all_reduce(r.bucket->gradient_shard, ReduceOp::sum,
                                         {"gradients of copies", step_, r.bucket->first_unit}));
    }
  }
  for (const Event& e : copies) times_.wait(e, TimeKind::wait_dp);
  std::vector<SharedSum> shared;
  for (const Reduction& r : reductions_) sum_shared_parts(*r.bucket, shared);
  for (const SharedSum& s : shared) times_.wait(s.done, s.kind);
  reductions_.clear();
}

}  // namespace forja
