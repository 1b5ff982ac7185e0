// SPDX-License-Identifier: Apache-2.0
// The launchers of a build without CUDA, which never gets memory of a GPU to call them with.
#include "forja/base/error.h"
#include "kernels/attention/attention.h"
#include "kernels/elementwise/elementwise.h"

namespace forja::kernels {
namespace {

[[noreturn]] void no_cuda() { fail("this build of Forja has no CUDA kernels"); }

}  // namespace

void fill(void*, DType, int64_t, float, KernelStream) { no_cuda(); }
void convert(const void*, DType, void*, DType, int64_t, KernelStream) { no_cuda(); }
void add(const void*, DType, const void*, DType, void*, DType, int64_t, KernelStream) { no_cuda(); }

void attention_forward(const AttentionForward&, KernelStream) { no_cuda(); }
void attention_backward(const AttentionBackward&, KernelStream) { no_cuda(); }

}  // namespace forja::kernels
