// SPDX-License-Identifier: Apache-2.0
// The launchers of a build without CUDA, which never gets memory of a GPU to call them with.
#include "forja/base/error.h"
#include "kernels/activation/activation.h"
#include "kernels/attention/attention.h"
#include "kernels/elementwise/column_sums.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/embedding/embedding.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/matmul/cublaslt.h"
#include "kernels/matmul/matmul.h"
#include "kernels/norm/norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/rope/rope.h"

namespace forja::kernels {
namespace {

[[noreturn]] void no_cuda() { fail("this build of Forja has no CUDA kernels"); }

}  // namespace

void fill(void*, DType, int64_t, float, KernelStream) { no_cuda(); }
void convert(const void*, DType, void*, DType, int64_t, KernelStream) { no_cuda(); }
void add(const void*, DType, const void*, DType, void*, DType, int64_t, KernelStream) { no_cuda(); }
void matmul(const MatmulProblem&, KernelStream) { no_cuda(); }
MatmulKernel matmul_kernel(const MatmulProblem&) { no_cuda(); }
MatmulProblem without_epilogue(MatmulProblem) { no_cuda(); }
void apply_epilogue(const MatmulProblem&, KernelStream) { no_cuda(); }
void find_non_finite(const void*, DType, int64_t, int64_t*, KernelStream) { no_cuda(); }
void fill_normal(float*, int64_t, uint64_t, int64_t, float, float, KernelStream) { no_cuda(); }
void scale(const void*, float, void*, DType, int64_t, KernelStream) { no_cuda(); }
void dropout(const void*, void*, DType, int64_t, float, uint64_t, const ElementMap&, KernelStream) {
  no_cuda();
}
void column_sums(const Rows&, DType, int64_t, int64_t, float*, KernelStream) { no_cuda(); }
void add_column_sums(const float*, int64_t, int64_t, float*, KernelStream) { no_cuda(); }
void norm_forward(const NormForward&, KernelStream) { no_cuda(); }
int64_t norm_backward(const NormBackward&, KernelStream) { no_cuda(); }
void gelu_forward(Gelu, const Rows&, const Rows&, DType, int64_t, int64_t, KernelStream) {
  no_cuda();
}
void gelu_backward(Gelu, const Rows&, const Rows&, const Rows&, DType, int64_t, int64_t,
                   KernelStream) {
  no_cuda();
}
void swiglu_forward(const Rows&, const Rows&, DType, int64_t, int64_t, KernelStream) { no_cuda(); }
void swiglu_backward(const Rows&, const Rows&, const Rows&, DType, int64_t, int64_t, KernelStream) {
  no_cuda();
}
void softmax_statistics(const Logits&, float*, float*, float*, KernelStream) { no_cuda(); }
void softmax_gradient(const Logits&, const float*, const float*, void*, DType, int64_t,
                      KernelStream) {
  no_cuda();
}
void log_probability(const float*, const float*, const float*, const int32_t*, float*, float*,
                     int64_t, KernelStream) {
  no_cuda();
}
void rescale_sum_exp(const float*, const float*, float*, int64_t, KernelStream) { no_cuda(); }
void sum_of_squares(const AdamWList&, double*, double*, KernelStream) { no_cuda(); }
void begin_adamw_step(const AdamWStep&, KernelStream) { no_cuda(); }
void adamw_step(const AdamWStep&, const AdamWSettings&, const AdamWList&, KernelStream) {
  no_cuda();
}
void embedding_lookup(LookupMode, const Lookup&, const Rows&, const Rows&, DType, KernelStream) {
  no_cuda();
}
void embedding_backward(const Lookup&, const Rows&, DType, const Rows&, int32_t*, KernelStream) {
  no_cuda();
}
void rope(const RopeArguments&, KernelStream) { no_cuda(); }

void attention_forward(const AttentionForward&, KernelStream) { no_cuda(); }
void attention_backward(const AttentionBackward&, KernelStream) { no_cuda(); }
bool cublaslt_available() { return false; }
std::string cublaslt_version() { no_cuda(); }
int cublaslt_num_algorithms(const MatmulProblem&) { no_cuda(); }
bool matmul_cublaslt(const MatmulProblem&, void*, KernelStream, int) { no_cuda(); }

}  // namespace forja::kernels
