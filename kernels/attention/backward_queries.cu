// SPDX-License-Identifier: Apache-2.0
// dQ (see backward.cu). The loop of the forward pass over the same tiles: a block has one tile of
// queries and of dout of one head, which stay in shared memory, and keys and values pass by in two
// stages. With L and delta known there is no maximum to follow:
//   P = 2^(Q K^T - L),  dS = P (dO V^T - delta),  dQ += dS K.
//
// Floor: 6 D flops a visible pair.
#include "kernels/attention/backward.h"
#include "kernels/attention/products.cuh"
#include "kernels/attention/tile_list.h"
#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

constexpr float kLog2e = 1.44269504f;

template <class T_, int kDim_, int kRowBlocks_, int kWarps_, int kColumns_>
struct QueriesShape {
  using T = T_;
  static constexpr int kDim = kDim_;              // head size, with columns of zeros behind
  static constexpr int kRowBlocks = kRowBlocks_;  // of 16 queries, a warp
  static constexpr int kColumns = kColumns_;      // keys of a tile
  static constexpr int kWarps = kWarps_, kThreads = kWarps * kWarp;
  static constexpr int kRows = 16 * kRowBlocks * kWarps;
  static_assert(kRows >= kAttentionTileRows);
};

template <class C>
struct QueriesStorage {
  SharedRows<typename C::T, C::kDim, C::kRows> q, dout;
  struct Stage {
    SharedRows<typename C::T, C::kDim, C::kColumns> k, v;
  } stages[2];
};

// products of dout and values -> dscores, given the scores.
template <int kRowBlocks, int kBlocks>
__device__ __forceinline__ void score_gradients(
    const float (&scores)[kRowBlocks][kBlocks][4], float scale,
    const AttentionStatistics (&statistics)[kRowBlocks][2],
    float (&products)[kRowBlocks][kBlocks][4]) {
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const AttentionStatistics& s = statistics[i][e / 2];
        float& x = products[i][j][e];
        x = fast_exp2(scores[i][j][e] * scale - s.log_sum) * (x - s.delta);
      }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, kMinBlocks)
    queries_kernel(const __grid_constant__ AttentionBackward a, bool packed) {
  using T = typename C::T;
  using P = Products<T>;
  constexpr int kWarpRows = 16 * C::kRowBlocks;
  const AttentionProblem& p = a.problem;
  const int head = int(blockIdx.x) % p.num_heads;
  const AttentionTile tile = a.query_tiles[int(blockIdx.x) / p.num_heads];
  if (tile.first < 0) return;
  auto& shared = shared_storage<QueriesStorage<C>>();
  const Visibility visible(tile, p);
  const int key_head = head / (p.num_heads / p.num_key_heads);

  // Keys that the block's and that the warp's rows see.
  const int end_query = std::min(tile.first + C::kRows, tile.q_length);
  const int first_key = visible.first_key(tile.first), end_key = visible.end_key(end_query - 1);
  const int warp_row = warp_index() * kWarpRows, query = tile.first + warp_row;
  const int last_query = std::min(query + kWarpRows, end_query) - 1;
  const int warp_first = visible.first_key(query);
  const int warp_end = query < end_query ? visible.end_key(last_query) : 0;
  // All of the warp's rows see the keys between.
  const int inner_first = visible.first_key(last_query), inner_end = visible.end_key(query);

  float dq[C::kRowBlocks][C::kDim / 8][4] = {};
  if (first_key < end_key) {
    const HeadRows<T> k(a.k, tile.k_begin, key_head, p.head_size, packed);
    const HeadRows<T> v(a.v, tile.k_begin, key_head, p.head_size, packed);
    const auto load_stage = [&](int key, int stage) {
      load_rows<C::kThreads>(shared.stages[stage].k, k, key, end_key);
      load_rows<C::kThreads>(shared.stages[stage].v, v, key, end_key);
      commit_copies();
    };
    load_rows<C::kThreads>(shared.q, HeadRows<T>(a.q, tile.q_begin, head, p.head_size, packed),
                           tile.first, end_query);
    load_rows<C::kThreads>(shared.dout,
                           HeadRows<T>(a.dout, tile.q_begin, head, p.head_size, packed), tile.first,
                           end_query);
    load_stage(first_key, 0);
    AttentionStatistics statistics[C::kRowBlocks][2];
#pragma unroll
    for (int i = 0; i < C::kRowBlocks; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = query + 16 * i + 8 * h + lane_index() / 4;
        statistics[i][h] = {INFINITY, 0.0f};
        if (row < end_query)
          statistics[i][h] = a.statistics[int64_t(head) * p.num_queries + tile.q_begin + row];
      }
    const typename P::template Left<false, C::kRowBlocks, C::kDim, C::kRows> q(shared.q, warp_row),
        dout(shared.dout, warp_row);
    for (int key = first_key, stage = 0; key < end_key; key += C::kColumns, stage ^= 1) {
      wait_copies<0>();
      sync_block();  // the stage has arrived, and everybody is done with the other one
      if (key + C::kColumns < end_key) load_stage(key + C::kColumns, stage ^ 1);
      if (key >= warp_end || key + C::kColumns <= warp_first) continue;
      float scores[C::kRowBlocks][C::kColumns / 8][4], ds[C::kRowBlocks][C::kColumns / 8][4];
      P::multiply(q, shared.stages[stage].k, scores);
      sync_warp();  // loads of the next product shall not come before: they take registers
      P::multiply(dout, shared.stages[stage].v, ds);
      score_gradients(scores, p.scale * kLog2e, statistics, ds);
      if (key < inner_first || key + C::kColumns > inner_end)
        mask_keys(ds, visible, query, key, 0.0f);
      P::accumulate(ds, shared.stages[stage].k, dq);
    }
  }
  float factor[C::kRowBlocks][2];
#pragma unroll
  for (int i = 0; i < C::kRowBlocks; ++i) factor[i][0] = factor[i][1] = p.scale;
  store_sums<P>(dq, factor, shared.q, warp_row,
                HeadRows<T>(a.dq, tile.q_begin, head, p.head_size, packed), query, end_query);
}

template <class T, int kDim, int kRowBlocks, int kWarps, int kColumns>
void run_queries(const AttentionBackward& a, KernelStream stream) {
  using C = QueriesShape<T, kDim, kRowBlocks, kWarps, kColumns>;
  const AttentionProblem& p = a.problem;
  list_tiles(p, TileSide::queries, C::kRows, a.counts, a.query_tiles, stream);
  const int64_t blocks = attention_tiles(p.num_queries, p.num_sequences, C::kRows) * p.num_heads;
  launch({"attention_backward_queries", unsigned(blocks), C::kThreads, sizeof(QueriesStorage<C>)},
         stream, queries_kernel<C>, a, all_packed<T>(p.head_size, a.q, a.k, a.v, a.dout, a.dq));
}

}  // namespace

void attention_backward_queries(const AttentionBackward& a, KernelStream stream) {
  const int size = a.problem.head_size;
  if (a.problem.dtype == DType::f32) {
    if (size <= 64) return run_queries<float, 64, 1, 4, 16>(a, stream);
    if (size <= 128) return run_queries<float, 128, 1, 4, 16>(a, stream);
    return run_queries<float, 256, 1, 2, 8>(a, stream);
  }
  if (size <= 64) return run_queries<BFloat16, 64, 2, 4, 32>(a, stream);
  if (size <= 80) return run_queries<BFloat16, 80, 2, 4, 32>(a, stream);
  if (size <= 96) return run_queries<BFloat16, 96, 2, 4, 32>(a, stream);
  if (size <= 128) return run_queries<BFloat16, 128, 1, 4, 32>(a, stream);
  run_queries<BFloat16, 256, 1, 4, 16>(a, stream);
}

}  // namespace forja::kernels
