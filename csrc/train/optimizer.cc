// SPDX-License-Identifier: Apache-2.0
#include "forja/train/optimizer.h"

#include <algorithm>
#include <limits>

#include "forja/base/hash.h"
#include "forja/base/philox.h"

namespace forja {
namespace {

constexpr uint64_t kRoundingStream = 0xB16;

// Of this rank's shards.
std::vector<AdamWRange> ranges_of(const ParameterStore& store, uint64_t seed) {
  std::vector<AdamWRange> out;
  for (const auto& p : store.all()) {
    if (!p->spec.trainable) continue;
    const uint64_t key = mix_key(mix_key(seed, kRoundingStream), hash_text(p->spec.name));
    for (const ParameterRange& range : ranges_of_shard(*p)) {
      const auto part = [&](const Tensor& t) {
        return t.slice(0, range.begin - p->begin, range.end - p->begin);
      };
      const bool copies = p->master.dtype != p->weight_shard.dtype;
      out.push_back({.gradient = part(p->reduced_gradient),
                     .weight = part(p->master),
                     .first_moment = part(p->first_moment),
                     .second_moment = part(p->second_moment),
                     .compute_weight = copies ? part(p->weight_shard) : Tensor{},
                     .decays = p->spec.decay,
                     .counts = range.own,
                     .lr_scale = float(p->spec.lr_scale),
                     .key = key,
                     .elements = range.elements});
    }
  }
  return out;
}

}  // namespace

Optimizer::Optimizer(const Context& ctx, const ParameterStore& store, const OptimizerConfig& config,
                     uint64_t seed, Arena& arena)
    : config_(config), list_(make_adamw_list(ctx, ranges_of(store, seed), arena)) {
  state_.sum_of_squares = allocate(arena, DType::f64, {1});
  state_.num_updates = allocate(arena, DType::i64, {1});
  state_.largest_sum = allocate(arena, DType::f64, {1});
  set_num_updates(ctx, 0);
  set_largest_norm(ctx, INFINITY);
}

void Optimizer::step(const Context& ctx, double lr, Communicator& copy, TimeSplit& times) {
  sum_of_squares(ctx, list_, state_.sum_of_squares);
  times.wait(copy.all_reduce(state_.sum_of_squares, ReduceOp::sum, {"gradient norm"}),
             TimeKind::wait_dp);
  begin_adamw_step(ctx, state_);
  const AdamWOptions options{
      .lr = float(lr),
      .beta1 = float(config_.betas[0]),
      .beta2 = float(config_.betas[1]),
      .eps = float(config_.eps),
      .weight_decay = float(config_.weight_decay),
      .clip_norm = float(config_.clip_norm),
      .rounding = config_.stochastic_rounding ? Rounding::stochastic : Rounding::nearest};
  adamw_step(ctx, state_, options, list_);
  copy_bytes(ctx, &sum_of_squares_, state_.sum_of_squares.data, sizeof sum_of_squares_);
  copy_bytes(ctx, &num_updates_, state_.num_updates.data, sizeof num_updates_);
}

void Optimizer::set_largest_norm(const Context& ctx, double norm) {
  largest_sum_ = std::min(norm * norm, std::numeric_limits<double>::max());
  copy_bytes(ctx, state_.largest_sum.data, &largest_sum_, sizeof largest_sum_);
}

void Optimizer::set_num_updates(const Context& ctx, int64_t n) {
  num_updates_ = n;
  copy_bytes(ctx, state_.num_updates.data, &num_updates_, sizeof num_updates_);
  synchronize(ctx);
}

}  // namespace forja
