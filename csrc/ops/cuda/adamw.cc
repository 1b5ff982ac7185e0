// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/adamw.h"

#include "csrc/ops/cuda/arguments.h"
#include "kernels/optimizer/adamw.h"

namespace forja::cuda {
namespace {

kernels::AdamWStep step_of(const Context& ctx, const AdamWState& state) {
  return {typed<double>(ctx, state.sum_of_squares), typed<double>(ctx, state.largest_sum),
          typed<int64_t>(ctx, state.num_updates)};
}

// Whether groups of four elements may be accessed at once.
bool is_aligned(const AdamWRange& r) {
  for (const Tensor* t :
       {&r.gradient, &r.weight, &r.first_moment, &r.second_moment, &r.compute_weight}) {
    if (t->defined() && reinterpret_cast<uintptr_t>(t->data) % (4 * dtype_bytes(t->dtype)) != 0)
      return false;
  }
  return true;
}

int64_t num_chunks(const AdamWList& list) {
  int64_t chunks = 0;
  for (const AdamWRange& r : list.ranges) chunks += kernels::adamw_chunks(r.weight.num_elements());
  return chunks;
}

kernels::AdamWList list_of(const Context& ctx, const AdamWList& list) {
  return {static_cast<const kernels::AdamWRange*>(data(ctx, list.table)), int(list.ranges.size()),
          num_chunks(list), list.moment_dtype};
}

}  // namespace

Tensor make_adamw_table(const Context& ctx, const AdamWList& list, Arena& arena) {
  const auto bytes = int64_t(list.ranges.size() * sizeof(kernels::AdamWRange));
  const Tensor table = allocate(arena, DType::u8, {bytes});
  if (ctx.planning()) return table;
  std::vector<kernels::AdamWRange> rows;
  int64_t first_chunk = 0;
  for (const AdamWRange& r : list.ranges) {
    const int64_t count = r.weight.num_elements();
    rows.push_back({typed<float>(ctx, r.gradient), typed<float>(ctx, r.weight),
                    data(ctx, r.first_moment), data(ctx, r.second_moment),
                    typed<BFloat16>(ctx, r.compute_weight), count, first_chunk, r.elements, r.key,
                    r.lr_scale, r.decays, r.counts, is_aligned(r)});
    first_chunk += kernels::adamw_chunks(count);
  }
  copy_bytes(ctx, table.data, rows.data(), bytes);
  synchronize(ctx);  // the rows are this function's
  return table;
}

void sum_of_squares(const Context& ctx, const AdamWList& list, const Tensor& sum) {
  ArenaScope scope(*ctx.workspace);
  const int64_t blocks = kernels::sum_of_squares_blocks(num_chunks(list));
  const Tensor partial = allocate(*ctx.workspace, DType::f64, {blocks});
  if (ctx.planning()) return;
  kernels::sum_of_squares(list_of(ctx, list), typed<double>(ctx, sum), typed<double>(ctx, partial),
                          ctx.stream);
}

void begin_adamw_step(const Context& ctx, const AdamWState& state) {
  if (ctx.planning()) return;
  kernels::begin_adamw_step(step_of(ctx, state), ctx.stream);
}

void adamw_step(const Context& ctx, const AdamWState& state, const AdamWOptions& options,
                const AdamWList& list) {
  if (ctx.planning()) return;
  const kernels::AdamWSettings settings = {options.lr,      options.beta1,        options.beta2,
                                           options.eps,     options.weight_decay, options.clip_norm,
                                           options.rounding};
  kernels::adamw_step(step_of(ctx, state), settings, list_of(ctx, list), ctx.stream);
}

}  // namespace forja::cuda
