// SPDX-License-Identifier: Apache-2.0
// The memory of a rank's parameters. Units are put together to buckets: ranges that are reduced,
// divided among data-parallel ranks (ZeRO) and gathered as one.
// Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter
// Models", SC 2020.
//
//   zero   divided among S = dp_shard ranks
//   0      nothing (S is 1)
//   1      master weights and moments
//   2      and the gradients of layers: whole only while a micro-batch's backward adds to them
//   3      and the weights of layers: whole only around their use
// Vocabulary and replicated parameters are kept as under zero 1 at most: they are used at both ends
// of a step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "forja/device/arena.h"
#include "forja/device/context.h"
#include "forja/parallel/parameter.h"

namespace forja {

enum class StoreUse { inference, training };

struct StoreOptions {
  DType compute_dtype = DType::f32, moment_dtype = DType::f32;
  StoreUse use = StoreUse::training;
  int tp_rank = 0, tp_size = 1;
  int zero = 0, shard_rank = 0, num_shards = 1;
  int64_t bucket_bytes = 0;  // of fp32 gradients: layers of a stage share a bucket up to this size
  ParameterRules rules = {};
};

// Consecutive units of one stage and kind, all trained or all frozen. Frozen ones have weights
// only. Legend: n elements, a multiple of S; every rank of the shard group has n / S of them.
struct Bucket {
  int stage = 0;
  UnitKind kind = UnitKind::layer;
  bool trained = true;
  int first_unit = 0, last_unit = 0;  // inclusive
  std::vector<Parameter*> parameters;
  std::vector<int64_t> offsets;  // of each parameter's first element
  int64_t num_elements = 0;
  bool shards_weights = false, shards_gradients = false;
  Tensor weights;                      // [n] compute dtype; no data between uses when sharded
  Tensor weight_shard;                 // [n / S] of them, this rank's
  Tensor gradients;                    // [n] fp32; no data between uses when sharded
  Tensor gradient_shard;               // [n / S] fp32: the reduced gradients
  Tensor master;                       // [n / S] fp32
  Tensor first_moment, second_moment;  // [n / S] moment_dtype

  bool has_unit(int unit) const { return first_unit <= unit && unit <= last_unit; }
  // The whole weights (gradients) are at `data`, or nowhere.
  void attach_weights(void* data);
  void attach_gradients(void* data);
};

class ParameterStore {
 public:
  explicit ParameterStore(const StoreOptions& options) : options_(options) {}
  // Of one rank that has everything.
  ParameterStore(DType compute_dtype, StoreUse use)
      : ParameterStore(StoreOptions{.compute_dtype = compute_dtype, .use = use}) {}

  // Declares a parameter; the pointer stays valid as long as the store. Names are unique.
  Parameter* declare(ParameterSpec spec);

  // Gives every declared parameter its memory, from three arenas (real or planning).
  void allocate_all(Arena& weights, Arena& gradients, Arena& optimizer);

  // Weights and moments of this rank's shards become 0.
  void clear_states(const Context& ctx);
  // Draws the initial weights of this rank's shards: a pure function of (seed, name, element of the
  // full tensor), the same in every layout. Only of the `wanted` parameters (all, where it is
  // empty); the others become 0.
  void initialize(const Context& ctx, uint64_t seed,
                  const std::function<bool(const ParameterSpec&)>& wanted = {});
  // Shards of the compute weights = masters, rounded, of what is trained.
  void update_compute_weights(const Context& ctx);
  // Gradients of all that is not sharded, and the shards of the rest, become 0.
  void clear_gradients(const Context& ctx);

  const std::vector<std::unique_ptr<Parameter>>& all() const { return parameters_; }
  std::vector<Bucket>& buckets() { return buckets_; }
  const std::vector<Bucket>& buckets() const { return buckets_; }
  Parameter* find(const std::string& name) const;  // nullptr where there is none
  int64_t num_parameters() const;                  // elements of the full tensors
  int64_t num_trained() const;                     // ... of those that are trained
  const StoreOptions& options() const { return options_; }
  DType compute_dtype() const { return options_.compute_dtype; }
  StoreUse use() const { return options_.use; }

 private:
  void make_buckets();
  void allocate_bucket(Bucket& bucket, Arena& weights, Arena& gradients, Arena& optimizer);
  void place_shards(Bucket& bucket);

  StoreOptions options_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<Bucket> buckets_;  // in the order of the model
};

// A state of a parameter: what checkpoints keep.
enum class StateKind { weight, first_moment, second_moment };
// This rank's shard of it, flat: fp32, or moments in moment_dtype. Of what is frozen, the weight in
// its dtype and no moments.
Tensor shard_of(const Parameter& p, StateKind kind);
// The local elements that this rank has of a parameter's states; for inference, all.
std::pair<int64_t, int64_t> local_range(const Parameter& p);
// Writes the local elements [begin, end) of a parameter to `out`: flat, zeroed host memory.
using FillLocal = std::function<void(const Tensor& out, int64_t begin, int64_t end)>;
// Fills this rank's shard of `p`; for inference, the whole local weight. `out` has its dtype.
void set_local(const Context& ctx, Parameter& p, StateKind kind, const FillLocal& fill);
// ... from a full tensor, rounded to nearest where it is bf16.
void set_from_full(const Context& ctx, Parameter& p, StateKind kind, const float* full);

}  // namespace forja
