// SPDX-License-Identifier: Apache-2.0
// Matrix multiplication by cuBLASLt, which is loaded when first needed.
#pragma once

#include <string>

#include "kernels/matmul/matmul.h"

namespace forja::kernels {

// Scratch that NVIDIA recommends for Hopper, and more than enough before it.
constexpr int64_t kCublasLtScratchBytes = int64_t(32) << 20;

// Whether the library was found (libcublasLt.so.13 or .12). Never under the emulator.
bool cublaslt_available();
// "cuBLASLt 13.0.2", where it is available.
std::string cublaslt_version();

// How many algorithms the library proposes, at most kCublasLtAlgorithms: its guess of the fastest
// is number 0. Which they are depends only on the problem, its addresses as far as multiples of 16
// bytes go, the device, and the library's version.
constexpr int kCublasLtAlgorithms = 5;
int cublaslt_num_algorithms(const MatmulProblem& problem);

// Starts the product, asynchronously; `scratch` has kCublasLtScratchBytes and is used until it is
// done. An epilogue that the library lacks follows as a kernel of ours. Returns false, and has done
// nothing, where the library has no algorithm for the product. `algorithm`: by number; number 0
// where there are fewer.
bool matmul_cublaslt(const MatmulProblem& problem, void* scratch, KernelStream stream,
                     int algorithm = 0);

}  // namespace forja::kernels
