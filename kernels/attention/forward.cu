// SPDX-License-Identifier: Apache-2.0
// Forward attention for any GPU with mma.sync (sm_80). Source: Dao, "FlashAttention-2", 2023,
// section 3.1.
//
// A block has one tile of queries of one head; each of its warps has 16 or 32 of their rows. Tiles
// of keys and values pass by in two stages of shared memory, one on its way (cp.async) while the
// other is used, with one barrier a tile. For each, with S = Q K^T and scores in base 2:
//   m' = max(m, rowmax(S)),  P = 2^(S - m'),  O = O 2^(m - m') + P V,  l = l 2^(m - m') + rowsum(P)
// and in the end out = O / l and lse = m + log(l). S and P never leave registers: the accumulator
// of the first product has the layout of the second's left operand. O is scaled only where a
// maximum of the warp's rows has changed, which becomes rare.
//
// Work is proportional to the visible pairs: the tiles are listed by tile_list.cu, keys run from
// the first to the last that any row of the block sees, a warp skips tiles that none of its rows
// sees, and only tiles on the border of what is visible are masked number by number. The last tiles
// of a causal sequence, which have the most keys, start first; heads come next to each other, so
// that those of a group find their keys in the L2 cache.
//
// Floor: 4 D flops a visible pair, at the tensor cores' rate (fp32: at that of fp32 FMAs).
#include <cmath>

#include "kernels/attention/hopper.h"
#include "kernels/attention/products.cuh"
#include "kernels/attention/tile_list.h"
#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

constexpr float kLog2e = 1.44269504f;
constexpr float kLn2 = 0.693147181f;

template <class T_, int kDim_, int kRowBlocks_, int kColumns_, bool kHeld_>
struct ForwardShape {
  using T = T_;
  static constexpr int kDim = kDim_;              // head size, with columns of zeros behind
  static constexpr int kRowBlocks = kRowBlocks_;  // of 16 rows, a warp
  static constexpr int kColumns = kColumns_;      // keys of a tile
  static constexpr bool kHeld = kHeld_;           // queries stay in registers
  static constexpr int kWarps = 4, kThreads = kWarps * kWarp;
  static constexpr int kRows = 16 * kRowBlocks * kWarps;
  static_assert(kRows >= kAttentionTileRows);
};

template <class C>
struct ForwardStorage {
  SharedRows<typename C::T, C::kDim, C::kRows> q;
  struct Stage {
    SharedRows<typename C::T, C::kDim, C::kColumns> k, v;
  } stages[2];
};

// The softmax of a thread's rows so far: maxima, base 2, and sums of this thread's columns alone.
template <int kRowBlocks>
struct SoftmaxState {
  float maximum[kRowBlocks][2], sum[kRowBlocks][2];
};

// scores -> probabilities relative to the new maxima, to which state and sums are brought.
template <int kRowBlocks, int kBlocks, int kSums>
__device__ __forceinline__ void softmax(float (&scores)[kRowBlocks][kBlocks][4], float scale,
                                        SoftmaxState<kRowBlocks>& state,
                                        float (&sums)[kRowBlocks][kSums][4]) {
  float factor[kRowBlocks][2];
  bool changed = false;
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float largest = -INFINITY;
#pragma unroll
      for (int j = 0; j < kBlocks; ++j)
        largest = fmaxf(largest, fmaxf(scores[i][j][2 * h], scores[i][j][2 * h + 1]));
      const float before = state.maximum[i][h];
      const float now = fmaxf(before, warp_reduce<Max, 4>(largest) * scale);
      // Nothing seen so far: any finite reference will do.
      const float reference = now == -INFINITY ? 0.0f : now;
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kBlocks; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& x = scores[i][j][2 * h + c];
          x = fast_exp2(x * scale - reference);
          sum += x;
        }
      factor[i][h] = fast_exp2(before - reference);
      changed |= now != before;
      state.maximum[i][h] = now;
      state.sum[i][h] = state.sum[i][h] * factor[i][h] + sum;
    }
  if (!any_lane(changed)) return;
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
    for (int j = 0; j < kSums; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][j][e] *= factor[i][e / 2];
}

// 1 / l of each row, and lse where it is wanted.
template <int kRowBlocks>
__device__ __forceinline__ void finish_softmax(const AttentionForward& a,
                                               const SoftmaxState<kRowBlocks>& state,
                                               const AttentionTile& tile, int query, int head,
                                               float (&factor)[kRowBlocks][2]) {
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float sum = warp_reduce<Sum, 4>(state.sum[i][h]);
      factor[i][h] = sum == 0.0f ? 0.0f : 1.0f / sum;
      const int row = query + 16 * i + 8 * h + lane_index() / 4;
      if (a.lse != nullptr && lane_index() % 4 == 0 && row < tile.q_length) {
        a.lse[head * a.lse_stride + tile.q_begin + row] =
            sum == 0.0f ? -INFINITY : (state.maximum[i][h] + fast_log2(sum)) * kLn2;
      }
    }
}

// The op allows a negative scale; the maximum does not.
template <class C>
__device__ __forceinline__ void negate_rows(SharedRows<typename C::T, C::kDim, C::kRows>& rows) {
  for (int i = thread_index(); i < C::kRows * C::kDim / 2; i += C::kThreads) {
    typename C::T* pair = rows.chunk(2 * i / C::kDim, 2 * i % C::kDim / kPack<typename C::T>) +
                          2 * i % kPack<typename C::T>;
    store_pair(pair, -to_float(pair[0]), -to_float(pair[1]));
  }
  sync_block();
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, kMinBlocks)
    forward_kernel(const __grid_constant__ AttentionForward a, bool packed) {
  using T = typename C::T;
  using P = Products<T>;
  constexpr int kWarpRows = 16 * C::kRowBlocks;
  const AttentionProblem& p = a.problem;
  const int head = int(blockIdx.x) % p.num_heads;
  const AttentionTile tile = a.tiles[int(blockIdx.x) / p.num_heads];
  if (tile.first < 0) return;
  auto& shared = shared_storage<ForwardStorage<C>>();
  const Visibility visible(tile, p);
  const int key_head = head / (p.num_heads / p.num_key_heads);
  const HeadRows<T> k(a.k, tile.k_begin, key_head, p.head_size, packed);
  const HeadRows<T> v(a.v, tile.k_begin, key_head, p.head_size, packed);

  // Keys that the block's and that the warp's rows see.
  const int end_query = std::min(tile.first + C::kRows, tile.q_length);
  const int first_key = visible.first_key(tile.first), end_key = visible.end_key(end_query - 1);
  const int query = tile.first + warp_index() * kWarpRows;
  const int last_query = std::min(query + kWarpRows, end_query) - 1;
  const int warp_first = visible.first_key(query);
  const int warp_end = query < end_query ? visible.end_key(last_query) : 0;
  // All of the warp's rows see the keys between.
  const int inner_first = visible.first_key(last_query), inner_end = visible.end_key(query);

  float sums[C::kRowBlocks][C::kDim / 8][4] = {};
  SoftmaxState<C::kRowBlocks> state;
#pragma unroll
  for (int i = 0; i < C::kRowBlocks; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      state.maximum[i][h] = -INFINITY;
      state.sum[i][h] = 0.0f;
    }

  if (first_key < end_key) {
    // Above 0, so that what is hidden stays -inf.
    const float scale = fmaxf(fabsf(p.scale) * kLog2e, 1e-30f);
    const auto load_stage = [&](int key, int stage) {
      load_rows<C::kThreads>(shared.stages[stage].k, k, key, end_key);
      load_rows<C::kThreads>(shared.stages[stage].v, v, key, end_key);
      commit_copies();
    };
    load_rows<C::kThreads>(shared.q, HeadRows<T>(a.q, tile.q_begin, head, p.head_size, packed),
                           tile.first, end_query);
    load_stage(first_key, 0);
    wait_copies<0>();
    sync_block();
    if (p.scale < 0.0f) negate_rows<C>(shared.q);
    const typename P::template Left<C::kHeld, C::kRowBlocks, C::kDim, C::kRows> q(
        shared.q, warp_index() * kWarpRows);
    for (int key = first_key, stage = 0; key < end_key; key += C::kColumns, stage ^= 1) {
      wait_copies<0>();
      sync_block();  // the stage has arrived, and everybody is done with the other one
      if (key + C::kColumns < end_key) load_stage(key + C::kColumns, stage ^ 1);
      if (key >= warp_end || key + C::kColumns <= warp_first) continue;
      float scores[C::kRowBlocks][C::kColumns / 8][4];
      P::multiply(q, shared.stages[stage].k, scores);
      if (key < inner_first || key + C::kColumns > inner_end)
        mask_keys(scores, visible, query, key, -INFINITY);
      softmax(scores, scale, state, sums);
      P::accumulate(scores, shared.stages[stage].v, sums);
    }
  }
  float factor[C::kRowBlocks][2];
  finish_softmax(a, state, tile, query, head, factor);
  store_sums<P>(sums, factor, shared.q, warp_index() * kWarpRows,
                HeadRows<T>(a.out, tile.q_begin, head, p.head_size, packed), query, end_query);
}

template <class T, int kDim, int kRowBlocks, int kColumns, bool kHeld>
void run_forward(const AttentionForward& a, KernelStream stream) {
  using C = ForwardShape<T, kDim, kRowBlocks, kColumns, kHeld>;
  const AttentionProblem& p = a.problem;
  list_tiles(p, TileSide::queries, C::kRows, a.counts, a.tiles, stream);
  const int64_t blocks = attention_tiles(p.num_queries, p.num_sequences, C::kRows) * p.num_heads;
  launch({"attention_forward", unsigned(blocks), C::kThreads, sizeof(ForwardStorage<C>)}, stream,
         forward_kernel<C>, a, all_packed<T>(p.head_size, a.q, a.k, a.v, a.out));
}

}  // namespace

void attention_forward(const AttentionForward& a, KernelStream stream) {
  if (hopper_takes(a)) return attention_forward_hopper(a, stream);
  const int size = a.problem.head_size;
  if (a.problem.dtype == DType::f32) {
    if (size <= 64) return run_forward<float, 64, 1, 32, false>(a, stream);
    if (size <= 128) return run_forward<float, 128, 1, 16, false>(a, stream);
    return run_forward<float, 256, 1, 8, false>(a, stream);
  }
  if (size <= 64) return run_forward<BFloat16, 64, 2, 64, true>(a, stream);
  if (size <= 80) return run_forward<BFloat16, 80, 2, 32, true>(a, stream);
  if (size <= 96) return run_forward<BFloat16, 96, 2, 32, true>(a, stream);
  if (size <= 128) return run_forward<BFloat16, 128, 2, 32, false>(a, stream);
  run_forward<BFloat16, 256, 1, 32, false>(a, stream);
}

}  // namespace forja::kernels
