// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/rope.h"

#include "csrc/ops/cuda/arguments.h"
#include "kernels/rope/rope.h"

namespace forja::cuda {

void rope(const Context& ctx, const Tensor& x, const Tensor& positions, const Tensor& cos,
          const Tensor& sin, RopeDirection direction) {
  if (ctx.planning()) return;
  kernels::RopeArguments a;
  a.x = data(ctx, x);
  a.dtype = x.dtype;
  a.tokens = x.size(0);
  a.heads = int(x.size(1));
  a.half = int(x.size(2) / 2);
  a.token_stride = x.stride(0);
  a.head_stride = x.stride(1);
  a.positions = typed<int32_t>(ctx, positions);
  a.cos = typed<float>(ctx, cos);
  a.sin = typed<float>(ctx, sin);
  a.num_positions = cos.size(0);
  a.cos_stride = cos.stride(0);
  a.sin_stride = sin.stride(0);
  a.backward = direction == RopeDirection::backward;
  kernels::rope(a, ctx.stream);
}

}  // namespace forja::cuda
