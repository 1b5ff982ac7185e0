// SPDX-License-Identifier: Apache-2.0
// Where the kernels for Hopper are used.
#include "kernels/attention/hopper.h"

#include <initializer_list>

#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

constexpr int64_t kPackElements = 8;  // of 16 bytes

// By the copy engine, or by 16 bytes.
bool can_move(std::initializer_list<AttentionRows> all) {
  for (const AttentionRows& x : all) {
    if (reinterpret_cast<uintptr_t>(x.data) % 16 != 0) return false;
    for (const int64_t stride : {x.row_stride, x.head_stride})
      if (stride <= 0 || stride % kPackElements != 0) return false;
  }
  return true;
}

// Heads of other than 64 or 128 columns are computed with zeros behind. Tiles are counted in 32
// bits. A scale of 0 or below would turn maxima into minima: the portable kernels do that.
bool takes(const AttentionProblem& p) {
  const int64_t tiles = attention_tiles(std::max(p.num_queries, p.num_keys), p.num_sequences, 64);
  return compute_capability() == 90 && p.dtype == DType::bf16 && p.head_size <= 128 &&
         p.head_size % kPackElements == 0 && p.scale > 1e-30f && p.num_queries > 0 &&
         p.num_keys > 0 && tiles * p.num_heads < int64_t(1) << 30;
}

}  // namespace

bool hopper_takes(const AttentionForward& a) {
  return takes(a.problem) && can_move({a.q, a.k, a.v, a.out});
}
bool hopper_takes(const AttentionBackward& a) {
  return takes(a.problem) && can_move({a.q, a.k, a.v, a.dout, a.dq, a.dk, a.dv});
}

}  // namespace forja::kernels
