// SPDX-License-Identifier: Apache-2.0
// Which implementation of a matrix multiplication is used on a GPU: the one place that decides.
#pragma once

namespace forja::cuda {

enum class MatmulRoute {
  cublaslt,  // and kernels/matmul for what it has no algorithm for
  custom,    // kernels/matmul
};

// Until kernels/matmul has been measured against it on a GPU, cuBLASLt wherever it is found.
constexpr MatmulRoute matmul_route(bool cublaslt_available) {
  return cublaslt_available ? MatmulRoute::cublaslt : MatmulRoute::custom;
}

}  // namespace forja::cuda
