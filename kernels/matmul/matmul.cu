// SPDX-License-Identifier: Apache-2.0
// Which kernel multiplies.
#include "kernels/matmul/matmul.h"

#include "kernels/common/launch.h"
#include "kernels/matmul/variants.h"

namespace forja::kernels {

void matmul(const MatmulProblem& problem, KernelStream stream) {
  if (problem.dtype == DType::f32) return matmul_fp32(problem, stream);
  if (compute_capability() == 90 && hopper_can_read(problem)) return matmul_hopper(problem, stream);
  matmul_tensor_core(problem, stream);
}

}  // namespace forja::kernels
