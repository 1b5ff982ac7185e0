// SPDX-License-Identifier: Apache-2.0
// Model FLOPs (no recompute), for MFU: 6 x the matmul parameters a token meets (4 x the frozen),
// and attention over the pairs of tokens that really attend (causal, window, documents) or over all
// pairs. Source: Chowdhery et al., "PaLM", 2022, appendix B (which counts all pairs).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "forja/device/context.h"
#include "forja/nn/model_config.h"
#include "forja/parallel/parallel_config.h"
#include "forja/parallel/parameter.h"
#include "forja/tensor/tensor.h"

namespace forja {

struct FlopsCount {
  double attended = 0.0;        // attention over attended pairs
  double full_attention = 0.0;  // attention over all pairs of a sequence
  double recomputed = 0.0;  // forward work that backward does again: `hfu` adds it to `attended`
};

// Of the matmuls of a token, forward and backward: 6 for each parameter, 4 where it is frozen.
double matmul_flops_of_token(const ModelConfig& model, const ParameterRules& rules);

// Forward and backward of one micro-batch: `tokens` rows, `sequences` [S, 4] (see ops/attention.h)
// and the length of a row of the batch.
FlopsCount training_flops(const ModelConfig& model, const ParallelConfig& parallel,
                          double matmul_flops_of_token, int64_t tokens, const Tensor& sequences,
                          int64_t sequence_length);

// Parameters that a token meets in matrix multiplications: everything but embeddings, norms and
// biases; the head counts, adapters do not.
int64_t matmul_parameters(const ModelConfig& model);

// What the matmul of this rank reaches on a large problem, in FLOP/s. Takes about 0.2 s.
double measure_matmul_flops(const Context& ctx, DType dtype);

// What MFU is given against.
struct PeakFlops {
  double flops = 0.0;  // a second
  std::string source;  // "datasheet: 989 TFLOP/s, dense bf16, of NVIDIA H200"
};
// The dense rate of a GPU's datasheet, by its name as the driver says it; nothing for others, and
// for parts of a GPU.
std::optional<PeakFlops> datasheet_peak(const std::string& gpu_name, DType dtype);
// That of the context's GPU where there is one; else `measured`, of measure_matmul_flops().
PeakFlops peak_flops(const Context& ctx, DType dtype, double measured);

}  // namespace forja
