// SPDX-License-Identifier: Apache-2.0
// Attention on packed rows (forja/ops/attention.h). Pointers are the device's; everything is
// asynchronous.
#pragma once

#include <algorithm>
#include <cstdint>

#include "forja/base/dtype.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

// [rows, heads, head size], the last dim contiguous; strides in elements.
struct AttentionRows {
  void* data = nullptr;
  int64_t row_stride = 0, head_stride = 0;
};

// Rows [first, first + rows of a tile) of one sequence; first is -1 where there is no tile.
struct AttentionTile {
  int32_t q_begin, q_length, k_begin, k_length, first;
};

// What the backward pass keeps of a query row of a head.
struct alignas(8) AttentionStatistics {
  float log_sum;  // log-sum-exp of the scaled scores, base 2; +inf of a row that sees no key
  float delta;    // out . dout
};

struct AttentionProblem {
  DType dtype = DType::bf16;  // fp32 or bf16
  int head_size = 0;          // at most 256
  int num_heads = 0, num_key_heads = 0;
  int num_queries = 0, num_keys = 0;   // rows of all sequences, below 2^29
  const int32_t* sequences = nullptr;  // [S, 4]: q_begin, q_length, k_begin, k_length
  int num_sequences = 0;
  bool causal = true;
  int window = 0;  // 0: none; at most 2^29
  float scale = 1.0f;
};

// The kernels choose how many rows a tile has, at least so many. Sequences are known to the device
// alone, so lists of tiles and grids have the size of an upper bound.
inline constexpr int kAttentionTileRows = 32;
inline int64_t attention_tiles(int64_t rows, int64_t num_sequences,
                               int64_t tile_rows = kAttentionTileRows) {
  return std::min(rows, rows / tile_rows + num_sequences);
}

struct AttentionForward {
  AttentionProblem problem;
  AttentionRows q, k, v, out;
  float* lse = nullptr;  // [H, N], rows lse_stride apart; may be nullptr
  int64_t lse_stride = 0;
  // Scratch.
  int32_t* counts = nullptr;       // [S + 1]
  AttentionTile* tiles = nullptr;  // [attention_tiles(num_queries)]
};
void attention_forward(const AttentionForward& arguments, KernelStream stream);

struct AttentionBackward {
  AttentionProblem problem;
  AttentionRows q, k, v, out, dout, dq, dk, dv;
  const float* lse = nullptr;
  int64_t lse_stride = 0;
  // Scratch.
  int32_t* counts = nullptr;                  // [S + 1]
  AttentionTile* query_tiles = nullptr;       // [attention_tiles(num_queries)]
  AttentionTile* key_tiles = nullptr;         // [attention_tiles(num_keys)]
  AttentionStatistics* statistics = nullptr;  // [H, N]
};
void attention_backward(const AttentionBackward& arguments, KernelStream stream);

}  // namespace forja::kernels
