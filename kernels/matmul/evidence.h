// SPDX-License-Identifier: Apache-2.0
// Which of our kernels may be chosen over the library's: those that docs/gpu-evidence.md shows
// right and faster than cuBLASLt on a real GPU, in their current revision. A test holds page and
// table together; whoever changes a kernel sets both back.
#pragma once

#include <string_view>

namespace forja::kernels {

enum class MatmulKernel { tensor_core, hopper, fp32 };

// A row of the page: its first two cells, and whether the third begins with kShownFaster.
struct MatmulEvidence {
  std::string_view kernel, path;
  bool shown_faster;
};

inline constexpr std::string_view kShownFaster = "right and faster";

// By MatmulKernel.
inline constexpr MatmulEvidence kMatmulEvidence[] = {
    {"matmul, bf16", "mma.sync, sm_80 and up", false},
    {"matmul, bf16", "TMA and wgmma, sm_90a", false},
    {"matmul, fp32", "multiply-adds", false},
};
// Beside the kernel's own row, for products with an activation.
inline constexpr MatmulEvidence kEpilogueEvidence = {"matmul with GELU or SwiGLU",
                                                     "each of the three", false};

constexpr bool shown_faster(MatmulKernel kernel, bool with_epilogue) {
  return kMatmulEvidence[int(kernel)].shown_faster &&
         (!with_epilogue || kEpilogueEvidence.shown_faster);
}

}  // namespace forja::kernels
