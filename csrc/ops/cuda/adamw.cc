// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/adamw.h"

#include "csrc/ops/cuda/arguments.h"
#include "kernels/optimizer/adamw.h"

namespace forja::cuda {
namespace {

kernels::AdamWStep step_of(const Context& ctx, const AdamWState& state) {
  return {typed<double>(ctx, state.sum_of_squares), typed<int64_t>(ctx, state.num_updates)};
}

}  // namespace

void begin_adamw_step(const Context& ctx, const AdamWState& state) {
  if (ctx.planning()) return;
  kernels::begin_adamw_step(step_of(ctx, state), ctx.stream);
}

void adamw_step(const Context& ctx, const AdamWState& state, const AdamWOptions& options,
                const Tensor& gradient, const Tensor& weight, const Tensor& first_moment,
                const Tensor& second_moment, const Tensor& compute_weight) {
  if (ctx.planning()) return;
  const kernels::AdamWSettings settings = {options.lr,  options.beta1,        options.beta2,
                                           options.eps, options.weight_decay, options.clip_norm};
  const kernels::AdamWTensors tensors = {
      typed<float>(ctx, gradient),          typed<float>(ctx, weight),
      typed<float>(ctx, first_moment),      typed<float>(ctx, second_moment),
      typed<BFloat16>(ctx, compute_weight), weight.num_elements()};
  kernels::adamw_step(step_of(ctx, state), settings, tensors, ctx.stream);
}

}  // namespace forja::cuda
