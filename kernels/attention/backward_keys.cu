// SPDX-License-Identifier: Apache-2.0
// dK and dV (see backward.cu). A block has one tile of keys and values of one key head, which stay
// in shared memory; the query heads of its group pass by, and of each the tiles of queries and of
// dout that see any of the keys, in two stages. Scores are computed transposed,
//   S^T = K Q^T,  dP^T = V dO^T,  dV += P^T dO,  dK += dS^T Q,
// so that P^T and dS^T are left operands straight from registers, and a warp's rows are keys of its
// own: no number is exchanged between warps, and each sum is one thread's, in a fixed order.
//
// The sums of both, with what their products need, are more than the registers hold for heads above
// 128 (fp32: 64): there, one launch makes dK (three products) and another dV (two).
//
// Floor: 8 D flops a visible pair.
#include <cmath>

#include "kernels/attention/backward.h"
#include "kernels/attention/products.cuh"
#include "kernels/attention/tile_list.h"
#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

constexpr float kLog2e = 1.44269504f;

template <class T_, int kDim_, int kRowBlocks_, int kWarps_, int kColumns_>
struct KeysShape {
  using T = T_;
  static constexpr int kDim = kDim_;              // head size, with columns of zeros behind
  static constexpr int kRowBlocks = kRowBlocks_;  // of 16 keys, a warp
  static constexpr int kColumns = kColumns_;      // queries of a tile
  static constexpr int kWarps = kWarps_, kThreads = kWarps * kWarp;
  static constexpr int kRows = 16 * kRowBlocks * kWarps;
  static_assert(kRows >= kAttentionTileRows && kColumns <= kThreads);
};

template <class C>
struct KeysStorage {
  SharedRows<typename C::T, C::kDim, C::kRows> k, v;
  struct Stage {
    SharedRows<typename C::T, C::kDim, C::kColumns> q, dout;
    alignas(16) SharedArray<AttentionStatistics, C::kColumns> statistics;
  } stages[2];
};

// scores -> probabilities.
template <class Stage, int kRowBlocks, int kBlocks>
__device__ __forceinline__ void probabilities(float (&scores)[kRowBlocks][kBlocks][4], float scale,
                                              Stage& stage) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float log_sum = stage.statistics[8 * j + lane_index() % 4 * 2 + c].log_sum;
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float& x = scores[i][j][2 * h + c];
          x = fast_exp2(x * scale - log_sum);
        }
    }
}

// products of dout and values -> dscores.
template <class Stage, int kRowBlocks, int kBlocks>
__device__ __forceinline__ void score_gradients(const float (&p)[kRowBlocks][kBlocks][4],
                                                Stage& stage,
                                                float (&products)[kRowBlocks][kBlocks][4]) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float delta = stage.statistics[8 * j + lane_index() % 4 * 2 + c].delta;
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float& x = products[i][j][2 * h + c];
          x = p[i][j][2 * h + c] * (x - delta);
        }
    }
}

// What a block does in turn: the tiles of queries of each head of the group.
struct Step {
  int head, query;
  __device__ __forceinline__ Step next(int columns, int first_query, int end_query) const {
    return query + columns < end_query ? Step{head, query + columns} : Step{head + 1, first_query};
  }
};

template <class C, bool kKeys, bool kValues>
__global__ void __launch_bounds__(C::kThreads, kMinBlocks)
    keys_kernel(const __grid_constant__ AttentionBackward a, bool packed) {
  using T = typename C::T;
  using P = Products<T>;
  constexpr int kWarpRows = 16 * C::kRowBlocks;
  const AttentionProblem& p = a.problem;
  const int key_head = int(blockIdx.x) % p.num_key_heads;
  const AttentionTile tile = a.key_tiles[int(blockIdx.x) / p.num_key_heads];
  if (tile.first < 0) return;
  auto& shared = shared_storage<KeysStorage<C>>();
  const Visibility visible(tile, p);

  // Queries that see any of the block's and of the warp's keys.
  const int end_key = std::min(tile.first + C::kRows, tile.k_length);
  const int first_query = visible.first_query(tile.first);
  const int end_query = visible.end_query(end_key - 1);
  const int warp_row = warp_index() * kWarpRows, key = tile.first + warp_row;
  const int last_key = std::min(key + kWarpRows, end_key) - 1;
  const int warp_first = visible.first_query(key);
  const int warp_end = key < end_key ? visible.end_query(last_key) : 0;
  // The queries between see all of the warp's keys.
  const int inner_first = visible.first_query(last_key), inner_end = visible.end_query(key);

  const int group = p.num_heads / p.num_key_heads, end_head = (key_head + 1) * group;

  float dk[C::kRowBlocks][C::kDim / 8][4] = {}, dv[C::kRowBlocks][C::kDim / 8][4] = {};
  if (first_query < end_query) {
    const float scale = p.scale * kLog2e;
    const auto load_step = [&](const Step& step, int stage) {
      load_rows<C::kThreads>(shared.stages[stage].q,
                             HeadRows<T>(a.q, tile.q_begin, step.head, p.head_size, packed),
                             step.query, end_query);
      load_rows<C::kThreads>(shared.stages[stage].dout,
                             HeadRows<T>(a.dout, tile.q_begin, step.head, p.head_size, packed),
                             step.query, end_query);
      // Zeros behind the last query do no harm: there dout and delta are zero, too.
      const int row = thread_index();
      if (row < C::kColumns) {
        copy_async8(
            shared.stages[stage].statistics.at(row),
            a.statistics + int64_t(step.head) * p.num_queries + tile.q_begin + step.query + row,
            step.query + row < end_query);
      }
      commit_copies();
    };
    load_rows<C::kThreads>(shared.k, HeadRows<T>(a.k, tile.k_begin, key_head, p.head_size, packed),
                           tile.first, end_key);
    if constexpr (kKeys) {
      load_rows<C::kThreads>(shared.v,
                             HeadRows<T>(a.v, tile.k_begin, key_head, p.head_size, packed),
                             tile.first, end_key);
    }
    Step step{key_head * group, first_query};
    load_step(step, 0);
    const typename P::template Left<false, C::kRowBlocks, C::kDim, C::kRows> k(shared.k, warp_row),
        v(shared.v, warp_row);
    for (int stage = 0; step.head < end_head; stage ^= 1) {
      wait_copies<0>();
      sync_block();  // the stage has arrived, and everybody is done with the other one
      const Step next = step.next(C::kColumns, first_query, end_query);
      if (next.head < end_head) load_step(next, stage ^ 1);
      const int query = step.query;
      if (query < warp_end && query + C::kColumns > warp_first) {
        auto& now = shared.stages[stage];
        float prob[C::kRowBlocks][C::kColumns / 8][4];
        P::multiply(k, now.q, prob);
        probabilities(prob, scale, now);
        if (query < inner_first || query + C::kColumns > inner_end)
          mask_queries(prob, visible, key, query);
        if constexpr (kValues) P::accumulate(prob, now.dout, dv);
        if constexpr (kKeys) {
          float ds[C::kRowBlocks][C::kColumns / 8][4];
          P::multiply(v, now.dout, ds);
          score_gradients(prob, now, ds);
          P::accumulate(ds, now.q, dk);
        }
      }
      step = next;
    }
  }
  float factor[C::kRowBlocks][2];
#pragma unroll
  for (int i = 0; i < C::kRowBlocks; ++i) factor[i][0] = factor[i][1] = p.scale;
  if constexpr (kKeys) {
    store_sums<P>(dk, factor, shared.k, warp_row,
                  HeadRows<T>(a.dk, tile.k_begin, key_head, p.head_size, packed), key, end_key);
  }
#pragma unroll
  for (int i = 0; i < C::kRowBlocks; ++i) factor[i][0] = factor[i][1] = 1.0f;
  if constexpr (kValues) {
    store_sums<P>(dv, factor, shared.v, warp_row,
                  HeadRows<T>(a.dv, tile.k_begin, key_head, p.head_size, packed), key, end_key);
  }
}

template <class T, int kDim, int kRowBlocks, int kWarps, int kColumns>
void run_keys(const AttentionBackward& a, KernelStream stream) {
  using C = KeysShape<T, kDim, kRowBlocks, kWarps, kColumns>;
  const AttentionProblem& p = a.problem;
  list_tiles(p, TileSide::keys, C::kRows, a.counts, a.key_tiles, stream);
  const int64_t blocks = attention_tiles(p.num_keys, p.num_sequences, C::kRows) * p.num_key_heads;
  const LaunchShape shape{"attention_backward_keys", unsigned(blocks), C::kThreads,
                          sizeof(KeysStorage<C>)};
  const bool packed = all_packed<T>(p.head_size, a.q, a.k, a.v, a.dout, a.dk, a.dv);
  if constexpr (kDim * sizeof(T) <= 256) {
    launch(shape, stream, keys_kernel<C, true, true>, a, packed);
  } else {
    launch(shape, stream, keys_kernel<C, true, false>, a, packed);
    launch(shape, stream, keys_kernel<C, false, true>, a, packed);
  }
}

}  // namespace

void attention_backward_keys(const AttentionBackward& a, KernelStream stream) {
  const int size = a.problem.head_size;
  if (a.problem.dtype == DType::f32) {
    if (size <= 64) return run_keys<float, 64, 1, 4, 16>(a, stream);
    if (size <= 128) return run_keys<float, 128, 1, 4, 16>(a, stream);
    return run_keys<float, 256, 1, 2, 8>(a, stream);
  }
  if (size <= 64) return run_keys<BFloat16, 64, 2, 4, 16>(a, stream);
  if (size <= 80) return run_keys<BFloat16, 80, 1, 4, 64>(a, stream);
  if (size <= 96) return run_keys<BFloat16, 96, 1, 4, 32>(a, stream);
  if (size <= 128) return run_keys<BFloat16, 128, 1, 4, 32>(a, stream);
  run_keys<BFloat16, 256, 1, 4, 16>(a, stream);
}

}  // namespace forja::kernels
