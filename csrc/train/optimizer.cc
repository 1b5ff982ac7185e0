// SPDX-License-Identifier: Apache-2.0
#include "forja/train/optimizer.h"

#include "forja/ops/elementwise.h"

namespace forja {

Optimizer::Optimizer(const Context& ctx, ParameterStore& store, const OptimizerConfig& config,
                     Arena& arena)
    : store_(store), config_(config) {
  state_.sum_of_squares = allocate(arena, DType::f64, {1});
  state_.num_updates = allocate(arena, DType::i64, {1});
  set_num_updates(ctx, 0);
}

void Optimizer::step(const Context& ctx, double lr, Communicator& copy, TimeSplit& times) {
  fill_zero(ctx, state_.sum_of_squares);
  store_.add_sum_of_squares(ctx, state_.sum_of_squares);
  times.wait(copy.all_reduce(state_.sum_of_squares, ReduceOp::sum, {"gradient norm"}),
             TimeKind::wait_dp);
  begin_adamw_step(ctx, state_);
  AdamWOptions options{
      float(lr), float(config_.betas[0]), float(config_.betas[1]), float(config_.eps),
      0.0f,      float(config_.clip_norm)};
  for (const auto& p : store_.all()) {
    if (p->begin == p->end) continue;
    options.weight_decay = p->spec.decay ? float(config_.weight_decay) : 0.0f;
    const bool copies = p->master.dtype != p->weight_shard.dtype;
    adamw_step(ctx, state_, options, p->reduced_gradient, p->master, p->first_moment,
               p->second_moment, copies ? p->weight_shard : Tensor{});
  }
  copy_bytes(ctx, &sum_of_squares_, state_.sum_of_squares.data, sizeof sum_of_squares_);
  copy_bytes(ctx, &num_updates_, state_.num_updates.data, sizeof num_updates_);
}

void Optimizer::set_num_updates(const Context& ctx, int64_t n) {
  num_updates_ = n;
  copy_bytes(ctx, state_.num_updates.data, &num_updates_, sizeof num_updates_);
  synchronize(ctx);
}

}  // namespace forja
