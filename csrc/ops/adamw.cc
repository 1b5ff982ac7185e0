// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/adamw.h"

#include "csrc/ops/cpu/adamw.h"
#include "csrc/ops/cuda/adamw.h"
#include "csrc/ops/dispatch.h"

namespace forja {
namespace {

void check_state(const char* op, const AdamWState& state) {
  check_dtype(op, "sum_of_squares", state.sum_of_squares, DType::f64);
  check_shape(op, "sum_of_squares", state.sum_of_squares, {1});
  check_dtype(op, "num_updates", state.num_updates, DType::i64);
  check_shape(op, "num_updates", state.num_updates, {1});
}

}  // namespace

void begin_adamw_step(const Context& ctx, const AdamWState& state) {
  check_state("begin_adamw_step", state);
  if (!ctx.device.is_cpu()) {
    return cuda::begin_adamw_step(ctx, state);
  }
  if (ctx.planning()) return;
  cpu::begin_adamw_step(state);
}

void adamw_step(const Context& ctx, const AdamWState& state, const AdamWOptions& options,
                const Tensor& gradient, const Tensor& weight, const Tensor& first_moment,
                const Tensor& second_moment, const Tensor& compute_weight) {
  check_state("adamw_step", state);
  const std::pair<const char*, const Tensor*> arguments[] = {{"gradient", &gradient},
                                                             {"weight", &weight},
                                                             {"first_moment", &first_moment},
                                                             {"second_moment", &second_moment}};
  for (const auto& [name, t] : arguments) check_dtype("adamw_step", name, *t, DType::f32);
  if (compute_weight.defined())
    check_dtype("adamw_step", "compute_weight", compute_weight, DType::bf16);
  for (const Tensor* t : {&gradient, &weight, &first_moment, &second_moment, &compute_weight}) {
    if (!t->defined()) continue;
    FORJA_CHECK(
        t->is_contiguous() && t->num_elements() == weight.num_elements(),
        "adamw_step: all tensors must be contiguous and of one size, found {} beside the weight {}",
        t->to_string(), weight.to_string());
  }
  if (!ctx.device.is_cpu()) {
    return cuda::adamw_step(ctx, state, options, gradient, weight, first_moment, second_moment,
                            compute_weight);
  }
  if (ctx.planning()) return;
  cpu::adamw_step(state, options, gradient, weight, first_moment, second_moment, compute_weight);
}

}  // namespace forja
