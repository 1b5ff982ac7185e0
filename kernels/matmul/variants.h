// SPDX-License-Identifier: Apache-2.0
// The kernels that matmul() chooses from; each takes every MatmulProblem of its dtype, but for
// hopper, and has the epilogues of operands contiguous along K with c of their dtype.
#pragma once

#include "kernels/matmul/matmul.h"

namespace forja::kernels {

void matmul_fp32(const MatmulProblem& problem, KernelStream stream);         // fp32.cu
void matmul_tensor_core(const MatmulProblem& problem, KernelStream stream);  // bf16, sm_80

// bf16 on compute capability 9.0: whether the copy engine can read the operands (they and their
// rows begin at multiples of 16 bytes), and the product.
bool hopper_can_read(const MatmulProblem& problem);
void matmul_hopper(const MatmulProblem& problem, KernelStream stream);

// f.template operator()<MatmulEpilogue>() for that value.
template <class F>
void dispatch_epilogue(MatmulEpilogue epilogue, const F& f) {
  using E = MatmulEpilogue;
  switch (epilogue) {
    case E::none:
      return f.template operator()<E::none>();
    case E::gelu_tanh:
      return f.template operator()<E::gelu_tanh>();
    case E::gelu_erf:
      return f.template operator()<E::gelu_erf>();
    case E::swiglu:
      return f.template operator()<E::swiglu>();
  }
}

}  // namespace forja::kernels
