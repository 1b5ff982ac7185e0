// SPDX-License-Identifier: Apache-2.0
// One product of ops/matmul_choices.h on a real GPU.
#pragma once

#include <memory>
#include <string>

#include "forja/device/device.h"
#include "forja/ops/matmul_choices.h"
#include "kernels/matmul/matmul.h"

namespace forja::cuda {

// Whether choices speak of the problem: they are of operands that begin at multiples of 16 bytes.
bool has_choice(const kernels::MatmulProblem& problem);

// All of the problem but its addresses, in words.
std::string describe(const kernels::MatmulProblem& problem, bool has_bias);

// The addresses of `problem` are not used. Memory is taken by the first call that times.
std::unique_ptr<MatmulTrial> make_trial(Device device, const kernels::MatmulProblem& problem,
                                        bool has_bias);

}  // namespace forja::cuda
