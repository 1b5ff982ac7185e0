// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/elementwise.h"

#include "csrc/ops/cuda/arguments.h"
#include "forja/device/gpu_runtime.h"
#include "kernels/elementwise/column_sums.h"
#include "kernels/elementwise/elementwise.h"

namespace forja::cuda {

void fill_value(const Context& ctx, const Tensor& x, float value) {
  if (ctx.planning()) return;
  kernels::fill(data(ctx, x), x.dtype, x.num_elements(), value, ctx.stream);
}

void fill_zero(const Context& ctx, const Tensor& x) {
  if (ctx.planning()) return;
  gpu_fill_bytes(data(ctx, x), 0, x.num_bytes(), ctx.stream);
}

void convert(const Context& ctx, const Tensor& in, const Tensor& out) {
  if (ctx.planning()) return;
  kernels::convert(data(ctx, in), in.dtype, data(ctx, out), out.dtype, in.num_elements(),
                   ctx.stream);
}

void add(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out) {
  if (ctx.planning()) return;
  kernels::add(data(ctx, a), a.dtype, data(ctx, b), b.dtype, data(ctx, out), out.dtype,
               out.num_elements(), ctx.stream);
}

void bias_gradient(const Context& ctx, const Tensor& dy, const Tensor& bias_gradient) {
  ArenaScope scope(*ctx.workspace);
  const int64_t blocks = kernels::column_sum_blocks(dy.size(0), dy.size(1));
  const Tensor partial = allocate(*ctx.workspace, DType::f32, {blocks, dy.size(1)});
  if (ctx.planning()) return;
  auto* sums = typed<float>(ctx, partial);
  kernels::column_sums(rows(ctx, dy), dy.dtype, dy.size(0), dy.size(1), sums, ctx.stream);
  kernels::add_column_sums(sums, blocks, dy.size(1), typed<float>(ctx, bias_gradient), ctx.stream);
}

int64_t find_non_finite(const Context& ctx, const Tensor& x) {
  ArenaScope scope(*ctx.workspace);
  const Tensor first = allocate(*ctx.workspace, DType::i64, {1});
  if (ctx.planning()) return -1;
  kernels::find_non_finite(data(ctx, x), x.dtype, x.num_elements(), typed<int64_t>(ctx, first),
                           ctx.stream);
  int64_t found = 0;
  gpu_copy(&found, first.data, sizeof(found), ctx.stream);
  gpu_synchronize(ctx.stream);
  return found == kernels::kNoneFound ? -1 : found;
}

void fill_normal(const Context& ctx, const Tensor& x, uint64_t key, int64_t first_element,
                 float mean, float std) {
  if (ctx.planning()) return;
  kernels::fill_normal(typed<float>(ctx, x), x.num_elements(), key, first_element, mean, std,
                       ctx.stream);
}

void dropout(const Context& ctx, const Tensor& x, const Tensor& y, float probability, uint64_t key,
             const ElementMap& elements) {
  if (ctx.planning()) return;
  kernels::dropout(data(ctx, x), data(ctx, y), x.dtype, x.num_elements(), probability, key,
                   elements, ctx.stream);
}

void scale(const Context& ctx, const Tensor& x, float factor, const Tensor& out) {
  if (ctx.planning()) return;
  kernels::scale(data(ctx, x), factor, data(ctx, out), x.dtype, x.num_elements(), ctx.stream);
}

}  // namespace forja::cuda
