// SPDX-License-Identifier: Apache-2.0
// The launchers of a build without CUDA, which never gets memory of a GPU to call them with.
#include "forja/base/error.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/matmul/cublaslt.h"
#include "kernels/matmul/matmul.h"

namespace forja::kernels {
namespace {

[[noreturn]] void no_cuda() { fail("this build of Forja has no CUDA kernels"); }

}  // namespace

void fill(void*, DType, int64_t, float, KernelStream) { no_cuda(); }
void convert(const void*, DType, void*, DType, int64_t, KernelStream) { no_cuda(); }
void add(const void*, DType, const void*, DType, void*, DType, int64_t, KernelStream) { no_cuda(); }
void matmul(const MatmulProblem&, KernelStream) { no_cuda(); }
bool cublaslt_available() { return false; }
bool matmul_cublaslt(const MatmulProblem&, void*, KernelStream) { no_cuda(); }

}  // namespace forja::kernels
