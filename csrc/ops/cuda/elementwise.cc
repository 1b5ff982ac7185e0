// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/elementwise.h"

#include "csrc/ops/cuda/arguments.h"
#include "forja/device/gpu_runtime.h"
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

}  // namespace forja::cuda
