// SPDX-License-Identifier: Apache-2.0
// The kernels that matmul() chooses from; each takes every MatmulProblem of its dtype, but for
// hopper.
#pragma once

#include "kernels/matmul/matmul.h"

namespace forja::kernels {

void matmul_fp32(const MatmulProblem& problem, KernelStream stream);         // fp32.cu
void matmul_tensor_core(const MatmulProblem& problem, KernelStream stream);  // bf16, sm_80

// bf16 on compute capability 9.0: whether the copy engine can read the operands (they and their
// rows begin at multiples of 16 bytes), and the product.
bool hopper_can_read(const MatmulProblem& problem);
void matmul_hopper(const MatmulProblem& problem, KernelStream stream);

}  // namespace forja::kernels
