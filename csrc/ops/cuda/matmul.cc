// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/matmul.h"

#include "csrc/ops/cuda/arguments.h"
#include "csrc/ops/cuda/matmul_route.h"
#include "kernels/matmul/matmul.h"

namespace forja::cuda {
namespace {

// Of a matrix [outer, K], as view. Strides of dims of one element mean nothing.
kernels::MatmulOperand operand(const Context& ctx, const Tensor& x, int outer_dim, int k_dim) {
  const bool k_contiguous = x.stride(k_dim) == 1 || x.size(k_dim) <= 1;
  const int other = k_contiguous ? outer_dim : k_dim;
  // A row alone may be taken for one of many that begin at multiples of 16 bytes.
  const int64_t stride =
      x.size(other) > 1 ? x.stride(other) : (x.size(k_contiguous ? k_dim : outer_dim) + 7) / 8 * 8;
  return {data(ctx, x), k_contiguous, stride};
}

}  // namespace

void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
            MatmulOutput output, const Tensor& bias) {
  if (ctx.planning()) return;
  kernels::MatmulProblem problem = {
      .m = c.size(0),
      .n = c.size(1),
      .k = a.size(1),
      .dtype = a.dtype,
      .a = operand(ctx, a, 0, 1),
      .b = operand(ctx, b, 1, 0),
      .c = data(ctx, c),
      .c_dtype = c.dtype,
      .c_stride = c.stride(0),
      .accumulate = output == MatmulOutput::accumulate,
      .bias = data(ctx, bias),
      .bias_dtype = bias.defined() ? bias.dtype : DType::f32,
  };
  switch (matmul_route()) {
    case MatmulRoute::custom:
      return kernels::matmul(problem, ctx.stream);
  }
}

}  // namespace forja::cuda
