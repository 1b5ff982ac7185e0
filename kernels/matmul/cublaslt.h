// SPDX-License-Identifier: Apache-2.0
// Matrix multiplication by cuBLASLt, which is loaded when first needed.
#pragma once

#include "kernels/matmul/matmul.h"

namespace forja::kernels {

// Scratch that NVIDIA recommends for Hopper, and more than enough before it.
constexpr int64_t kCublasLtScratchBytes = int64_t(32) << 20;

// Whether the library was found (libcublasLt.so.13 or .12). Never under the emulator.
bool cublaslt_available();

// Starts the product, asynchronously; `scratch` has kCublasLtScratchBytes and is used until it is
// done. An epilogue that the library lacks follows as a kernel of ours. Returns false, and has done
// nothing, where the library has no algorithm for the product.
// The algorithm depends only on the problem and the device (and the library's version).
bool matmul_cublaslt(const MatmulProblem& problem, void* scratch, KernelStream stream);

}  // namespace forja::kernels
