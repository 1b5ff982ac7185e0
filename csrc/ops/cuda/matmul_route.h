// SPDX-License-Identifier: Apache-2.0
// Which implementation of a matrix multiplication is used on a GPU: the one place that decides.
#pragma once

namespace forja::cuda {

enum class MatmulRoute {
  custom,  // kernels/matmul
  // cuBLASLt is to stand here, and to be the default, until kernels/matmul has been measured
  // against it on a GPU.
};

constexpr MatmulRoute matmul_route() { return MatmulRoute::custom; }

}  // namespace forja::cuda
