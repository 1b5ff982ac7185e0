// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/matmul.h"

#include "csrc/ops/cpu/onednn.h"

namespace forja::cpu {

void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c, MatmulOutput output,
            const Tensor& bias) {
  onednn_matmul(ctx, a, b, c, output, bias);
}

}  // namespace forja::cpu
