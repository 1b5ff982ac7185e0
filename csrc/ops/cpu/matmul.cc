// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/matmul.h"

#include "csrc/ops/cpu/gemm.h"
#include "csrc/ops/cpu/matmul_route.h"
#include "csrc/ops/cpu/onednn.h"

namespace forja::cpu {

void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c, MatmulOutput output,
            const Tensor& bias) {
  static const MatmulMachine machine = this_machine();
  if (matmul_route(machine, a.dtype, a.size(0), a.size(1)) == MatmulRoute::onednn) {
    onednn_matmul(ctx, a, b, c, output, bias);
  } else {
    gemm(ctx, a, b, c, output, bias);
  }
}

}  // namespace forja::cpu
