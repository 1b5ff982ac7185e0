// SPDX-License-Identifier: Apache-2.0
// Model FLOPs (no recompute), for MFU: 6 x the matmul parameters a token meets, and attention over
// the pairs of tokens that really attend (causal, window, documents) or over all pairs. Source:
// Chowdhery et al., "PaLM", 2022, appendix B (which counts all pairs).
#pragma once

#include <cstdint>

#include "forja/device/context.h"
#include "forja/nn/model_config.h"
#include "forja/parallel/parallel_config.h"
#include "forja/tensor/tensor.h"

namespace forja {

struct FlopsCount {
  double attended = 0.0;        // attention over attended pairs
  double full_attention = 0.0;  // attention over all pairs of a sequence
  double recomputed = 0.0;  // forward work that backward does again: `hfu` adds it to `attended`
};

// Forward and backward of one micro-batch: `tokens` rows, `sequences` [S, 4] (see ops/attention.h)
// and the length of a row of the batch.
FlopsCount training_flops(const ModelConfig& model, const ParallelConfig& parallel, int64_t tokens,
                          const Tensor& sequences, int64_t sequence_length);

// Parameters that a token meets in matrix multiplications: everything but embeddings, norms and
// biases; the head counts.
int64_t matmul_parameters(const ModelConfig& model);

// What the matmul of this rank reaches on a large square problem, in FLOP/s: the peak against which
// MFU is given where no partition file states one. Takes about 0.2 s.
double measure_matmul_flops(const Context& ctx, DType dtype);

}  // namespace forja
