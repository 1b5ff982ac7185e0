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
  check_dtype(op, "largest_sum", state.largest_sum, DType::f64);
  check_shape(op, "largest_sum", state.largest_sum, {1});
}

void check_range(const AdamWRange& r, DType moment_dtype) {
  constexpr const char* kOp = "make_adamw_list";
  check_dtype(kOp, "gradient", r.gradient, DType::f32);
  check_dtype(kOp, "weight", r.weight, DType::f32);
  check_float(kOp, "first_moment", r.first_moment);
  check_dtype(kOp, "first_moment", r.first_moment, moment_dtype);
  check_dtype(kOp, "second_moment", r.second_moment, moment_dtype);
  if (r.compute_weight.defined()) check_dtype(kOp, "compute_weight", r.compute_weight, DType::bf16);
  for (const Tensor* t :
       {&r.gradient, &r.weight, &r.first_moment, &r.second_moment, &r.compute_weight}) {
    if (!t->defined()) continue;
    FORJA_CHECK(t->is_contiguous() && t->num_elements() == r.weight.num_elements(),
                "{}: all tensors of a range must be contiguous and of one size, found {} beside "
                "the weight {}",
                kOp, t->to_string(), r.weight.to_string());
  }
}

}  // namespace

AdamWList make_adamw_list(const Context& ctx, const std::vector<AdamWRange>& ranges, Arena& arena) {
  AdamWList list;
  if (!ranges.empty()) list.moment_dtype = ranges[0].first_moment.dtype;
  for (const AdamWRange& r : ranges) {
    check_range(r, list.moment_dtype);
    if (r.weight.num_elements() > 0) list.ranges.push_back(r);
  }
  if (!ctx.device.is_cpu()) list.table = cuda::make_adamw_table(ctx, list, arena);
  return list;
}

void sum_of_squares(const Context& ctx, const AdamWList& list, const Tensor& sum) {
  check_dtype("sum_of_squares", "sum", sum, DType::f64);
  check_shape("sum_of_squares", "sum", sum, {1});
  if (!ctx.device.is_cpu()) return cuda::sum_of_squares(ctx, list, sum);
  ArenaScope scope(*ctx.workspace);
  const Tensor partial = allocate(*ctx.workspace, DType::f64, {cpu::sum_blocks(list)});
  if (ctx.planning()) return;
  cpu::sum_of_squares(list, sum, partial);
}

void begin_adamw_step(const Context& ctx, const AdamWState& state) {
  check_state("begin_adamw_step", state);
  if (!ctx.device.is_cpu()) return cuda::begin_adamw_step(ctx, state);
  if (ctx.planning()) return;
  cpu::begin_adamw_step(state);
}

void adamw_step(const Context& ctx, const AdamWState& state, const AdamWOptions& options,
                const AdamWList& list) {
  check_state("adamw_step", state);
  FORJA_CHECK(options.rounding == Rounding::nearest || list.moment_dtype == DType::bf16 ||
                  list.ranges.empty(),
              "adamw_step: {} moments are not rounded, so not stochastically either",
              dtype_name(list.moment_dtype));
  if (!ctx.device.is_cpu()) return cuda::adamw_step(ctx, state, options, list);
  if (ctx.planning()) return;
  cpu::adamw_step(state, options, list);
}

}  // namespace forja
