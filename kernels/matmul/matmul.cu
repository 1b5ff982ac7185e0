// SPDX-License-Identifier: Apache-2.0
// Which kernel multiplies, and whether it has the epilogue too.
#include "kernels/matmul/matmul.h"

#include "kernels/activation/activation.h"
#include "kernels/common/launch.h"
#include "kernels/matmul/variants.h"

namespace forja::kernels {
namespace {

// Others would be four times as many kernels, for what no layer of a model asks for.
bool has_epilogue(const MatmulProblem& p) {
  return p.a.k_contiguous && p.b.k_contiguous && p.c_dtype == p.dtype;
}

}  // namespace

void matmul(const MatmulProblem& p, KernelStream stream) {
  if (p.epilogue != MatmulEpilogue::none && !has_epilogue(p)) {
    matmul(without_epilogue(p), stream);
    return apply_epilogue(p, stream);
  }
  switch (matmul_kernel(p)) {
    case MatmulKernel::fp32:
      return matmul_fp32(p, stream);
    case MatmulKernel::hopper:
      return matmul_hopper(p, stream);
    case MatmulKernel::tensor_core:
      return matmul_tensor_core(p, stream);
  }
}

MatmulKernel matmul_kernel(const MatmulProblem& p) {
  if (p.dtype == DType::f32) return MatmulKernel::fp32;
  return compute_capability() == 90 && hopper_can_read(p) ? MatmulKernel::hopper
                                                          : MatmulKernel::tensor_core;
}

MatmulProblem without_epilogue(MatmulProblem problem) {
  problem.epilogue = MatmulEpilogue::none;
  return problem;
}

void apply_epilogue(const MatmulProblem& p, KernelStream stream) {
  const Rows c = {.data = p.c, .outer_stride = p.c_stride};
  const Rows y = {.data = p.y, .outer_stride = p.y_stride};
  switch (p.epilogue) {
    case MatmulEpilogue::none:
      return;
    case MatmulEpilogue::gelu_tanh:
      return gelu_forward(Gelu::tanh, c, y, p.c_dtype, p.m, p.n, stream);
    case MatmulEpilogue::gelu_erf:
      return gelu_forward(Gelu::erf, c, y, p.c_dtype, p.m, p.n, stream);
    case MatmulEpilogue::swiglu:
      return swiglu_forward(c, y, p.c_dtype, p.m, p.y_columns(), stream);
  }
}

}  // namespace forja::kernels
