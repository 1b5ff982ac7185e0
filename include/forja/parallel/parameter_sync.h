// SPDX-License-Identifier: Apache-2.0
// Moves weights and gradients of a ParameterStore between the ranks that share or divide them,
// while layers compute.
//
//   gradients   reduce-scattered in the shard group and all-reduced over the copies; what a rank
//               has of them then is summed over the ranks with other parts of the same gradient:
//               tensor-parallel ranks (replicated parameters, shared key-value heads), both ends of
//               a pipeline (a tied embedding). All fp32.
//   weights     all-gathered in the shard group: after the optimizer (zero 1 and 2), or ahead of
//               each use (zero 3).
// Sources: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training",
// VLDB 2020 (buckets); Rajbhandari et al., "ZeRO", SC 2020; Zhao et al., "PyTorch FSDP", VLDB 2023.
#pragma once

#include <cstdint>
#include <vector>

#include "forja/device/context.h"
#include "forja/parallel/parallel_dims.h"
#include "forja/parallel/parameter_store.h"
#include "forja/parallel/time_split.h"

namespace forja {

class ParameterSync {
 public:
  // Nothing is owned. Takes the buffers of ZeRO-2 and ZeRO-3 from the arenas; the store has its
  // memory already.
  ParameterSync(ParameterStore& store, Mesh& mesh, TimeSplit& times, Arena& weights,
                Arena& gradients);
  // Waits for what is on its way to or from the arenas, unless an error is.
  ~ParameterSync();
  ParameterSync(const ParameterSync&) = delete;
  ParameterSync& operator=(const ParameterSync&) = delete;

  // The weights of layer `layer` are whole from here on until the next call but one; those of
  // `next` (-1: none) are fetched meanwhile.
  void use_layer(int layer, int next);
  // The same for everything but layers.
  void use_others();
  // The shards of the weights have changed (all: initialised, loaded; trained: updated): spreads
  // them.
  enum class Changed { all, trained };
  void publish_weights(Changed changed);
  // Waits until what it spreads has arrived: the shards may be set from outside.
  void finish_publishing();

  // Gradients of layer `layer` are about to be added to.
  void begin_gradient(const Context& ctx, int layer);
  // ... and are for this micro-batch; `complete`: for the step.
  void end_gradient(const Context& ctx, int layer, bool complete);
  // No micro-batch will add to the gradients of a stage any more.
  void stage_complete(int stage);
  // Waits until every reduced gradient is there. Every layer and stage is complete.
  void finish_gradients(const Context& ctx);

  void set_step(int64_t step) { step_ = step; }

 private:
  struct WeightSlot {
    Tensor memory;
    Bucket* bucket = nullptr;
    Event gathered;
  };
  // Of the layers' trained parameters, or of their frozen ones.
  struct LayerWeights {
    std::vector<Bucket*> bucket_of;  // by layer; nullptr for those of other ranks, or without any
    std::vector<WeightSlot> slots;   // of ZeRO-3: one in use, one on the way

    Bucket* bucket(int layer) const {
      return layer >= 0 && layer < int(bucket_of.size()) ? bucket_of[size_t(layer)] : nullptr;
    }
    WeightSlot* resident(const Bucket& bucket);
  };
  struct GradientSlot {
    Tensor memory, reduced;
    Bucket* bucket = nullptr;
    bool in_flight = false;
    Event done;
  };
  struct Reduction {
    Bucket* bucket;
    Event scattered;
    bool over_copies = false;  // is the sum over the copies already
  };
  struct SharedSum {
    Event done;
    TimeKind kind;
  };

  void add_layers(bool trained, Arena& weights, Arena& gradients);
  void use_layer(LayerWeights& weights, int layer, int next);
  WeightSlot& fetch(LayerWeights& weights, Bucket& bucket, const Bucket* keep);
  // Of a layer's gradients; nullptr where it is frozen.
  Bucket* trained_bucket(int layer) const { return trained_.bucket(layer); }
  GradientSlot& gradient_slot(const Context& ctx, Bucket& bucket);
  void settle(const Context& ctx, GradientSlot& slot);
  void reduce(Bucket& bucket);
  void sum_shared_parts(Bucket& bucket, std::vector<SharedSum>& sums);
  int index_of(const Bucket& bucket) const { return int(&bucket - store_.buckets().data()); }

  ParameterStore& store_;
  Mesh& mesh_;
  TimeSplit& times_;
  LayerWeights trained_, frozen_;
  std::vector<Event> published_;  // by bucket
  std::vector<GradientSlot> gradient_slots_;
  std::vector<Reduction> reductions_;
  int64_t step_ = 0;
};

}  // namespace forja
