// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/matmul.h"

#include "csrc/ops/cpu/gemm.h"
#include "csrc/ops/cpu/matmul_route.h"
#include "csrc/ops/cpu/onednn.h"
#include "csrc/ops/dispatch.h"

namespace forja::cpu {
namespace {

// K = 0: the sum of nothing.
void empty_product(const Context& ctx, const Tensor& c, MatmulOutput output, const Tensor& bias) {
  if (ctx.planning() || output == MatmulOutput::accumulate) return;
  dispatch_float(c.dtype, [&]<class T>() {
    for (int64_t i = 0; i < c.size(0); ++i) {
      for (int64_t j = 0; j < c.size(1); ++j) {
        float value = 0;
        if (bias.defined())
          dispatch_float(bias.dtype, [&]<class B>() { value = float(bias.ptr<B>()[j]); });
        c.ptr<T>()[i * c.stride(0) + j] = T(value);
      }
    }
  });
}

}  // namespace

void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
            MatmulOutput output, const Tensor& bias) {
  if (a.size(1) == 0) return empty_product(ctx, c, output, bias);
  static const MatmulMachine machine = this_machine();
  if (matmul_route(machine, a, b) == MatmulRoute::onednn) {
    onednn_matmul(ctx, a, b, c, output, bias);
  } else {
    gemm(ctx, a, b, c, output, bias);
  }
}

}  // namespace forja::cpu
