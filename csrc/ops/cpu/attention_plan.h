// SPDX-License-Identifier: Apache-2.0
// How attention is cut into blocks, and the scratch of a thread. Shared by the passes; the same for
// every target.
#pragma once

#include <algorithm>
#include <cstdint>

#include "csrc/ops/cpu/attention.h"

namespace forja::cpu {

// Keys of a block: a multiple of the columns (32, 16, 8) of the register tile, and of its 14 rows.
inline constexpr int64_t kKeyBlock = 224;
// Query rows that share the packed keys of a block in the forward pass, and that are one step of
// the backward pass.
inline constexpr int64_t kForwardRows = 504;
inline constexpr int64_t kBackwardRows = 112;
// Upper bounds over the targets: rows of a tile, and the multiple to which head sizes are padded.
inline constexpr int64_t kMaxTileRows = 14;
inline constexpr int64_t kHeadPadding = 32;
inline constexpr int64_t kAttentionRowStride = 272;

inline int64_t padded_head(int64_t dim) {
  return (dim + kHeadPadding - 1) / kHeadPadding * kHeadPadding;
}

// Queries of one head in a chunk of the forward pass, so that those of a group are about
// kForwardRows together.
inline int64_t forward_queries(int64_t group) {
  return std::max<int64_t>(kMaxTileRows, kForwardRows / group / kMaxTileRows * kMaxTileRows);
}

// A sequence and its visible keys.
struct Visibility {
  int64_t q_begin, q_length, k_begin, k_length;
  bool causal;
  int64_t window;

  Visibility(const int32_t* s, const AttentionOptions& o)
      : q_begin(s[0]),
        q_length(s[1]),
        k_begin(s[2]),
        k_length(s[3]),
        causal(o.causal),
        window(o.window) {}
  // Query i of the sequence sees its keys [first(i), end(i)).
  int64_t end(int64_t i) const {
    return causal ? std::clamp<int64_t>(i + k_length - q_length + 1, 0, k_length) : k_length;
  }
  int64_t first(int64_t i) const {
    return window > 0 ? std::clamp<int64_t>(i + k_length - q_length + 1 - window, 0, end(i)) : 0;
  }
};

// Hands out pieces of a thread's scratch, aligned to cache lines. On nullptr it only counts.
class Carver {
 public:
  explicit Carver(uint8_t* base) : base_(base) {}
  float* floats(int64_t count) {
    float* piece = base_ ? reinterpret_cast<float*>(base_ + used_) : nullptr;
    used_ += (count * 4 + 63) / 64 * 64;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  uint8_t* base_;
  int64_t used_ = 0;
};

// Legend: D head size, P padded, B keys of a block, R rows.
struct ForwardScratch {
  float* q;        // [R, stride] scaled queries of the chunk
  float* sum;      // [R, P] weighted values so far
  float* maximum;  // [R] of the scores so far, base 2
  float* weight;   // [R] sum of the exponentials so far
  float* keys;     // [B / tile columns, D, tile columns] transposed
  float* values;   // [B, P]
  float* scores;   // [tile rows, stride]

  ForwardScratch(Carver& c, int64_t group, int64_t dim) {
    const int64_t rows = group * (forward_queries(group) + kMaxTileRows);
    q = c.floats(rows * kAttentionRowStride);
    sum = c.floats(rows * padded_head(dim));
    maximum = c.floats(rows);
    weight = c.floats(rows);
    keys = c.floats(kKeyBlock * dim);
    values = c.floats(kKeyBlock * padded_head(dim));
    scores = c.floats(kMaxTileRows * kAttentionRowStride);
  }
};

struct BackwardScratch {
  float* q;            // [R, stride] scaled queries of the step
  float* dout;         // [R, stride]
  float* probability;  // [R, stride]
  float* dscore;       // [R, stride]
  float* keys;         // [B / tile columns, D, tile columns] transposed
  float* values;       // the same
  float* key_rows;     // [B, P]
  float* dkeys;        // [B, P] sums
  float* dvalues;      // [B, P] sums
  float* dq;           // [group, queries, P] sums over the keys
  float* delta;        // [group, queries] dout . out
  float* lse;          // [group, queries] base 2

  BackwardScratch(Carver& c, int64_t group, int64_t dim, int64_t queries) {
    const int64_t rows = kBackwardRows + kMaxTileRows, key_rows_padded = kKeyBlock + kMaxTileRows;
    q = c.floats(rows * kAttentionRowStride);
    dout = c.floats(rows * kAttentionRowStride);
    probability = c.floats(rows * kAttentionRowStride);
    dscore = c.floats(rows * kAttentionRowStride);
    keys = c.floats(kKeyBlock * dim);
    values = c.floats(kKeyBlock * dim);
    key_rows = c.floats(kKeyBlock * padded_head(dim));
    dkeys = c.floats(key_rows_padded * padded_head(dim));
    dvalues = c.floats(key_rows_padded * padded_head(dim));
    dq = c.floats((group * queries + kMaxTileRows) * padded_head(dim));
    delta = c.floats(group * queries);
    lse = c.floats(group * queries);
  }
};

}  // namespace forja::cpu
