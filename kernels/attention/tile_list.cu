// SPDX-License-Identifier: Apache-2.0
// One block. It sums the numbers of tiles of the sequences (a scan in steps of the block's size),
// and then every thread finds the sequences of its entries of the list by bisection. Bound by
// latency: some microseconds.
#include "kernels/attention/tile_list.h"

#include "kernels/common/launch.h"
#include "kernels/common/warp.cuh"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;

struct ListStorage {
  SharedArray<int, kThreads / kWarp> warp_sums;
};

struct ListArguments {
  AttentionProblem problem;
  TileSide side;
  int tile_rows, num_entries;
  int32_t* counts;
  AttentionTile* tiles;
};

__device__ __forceinline__ AttentionTile read_sequence(const AttentionProblem& p, int i) {
  const int32_t* s = p.sequences + int64_t(4) * i;
  const AttentionTile t{s[0], s[1], s[2], s[3], -1};
  const bool fits = t.q_begin >= 0 && t.q_length >= 0 && t.k_begin >= 0 && t.k_length >= 0 &&
                    t.q_begin <= p.num_queries && t.q_length <= p.num_queries - t.q_begin &&
                    t.k_begin <= p.num_keys && t.k_length <= p.num_keys - t.k_begin;
  if (!fits) kernel_fault("a sequence is outside of the queries or keys");
  return t;
}

// Sum over the threads before this one; `total` of all. Every thread must take part.
__device__ __forceinline__ int sum_before(int value, ListStorage& shared, int& total) {
  int sum = value;
#pragma unroll
  for (int d = 1; d < kWarp; d *= 2) {
    const int other = shuffle_from(sum, lane_index() - d);
    if (lane_index() >= d) sum += other;
  }
  sync_block();  // warp_sums of the step before have been read
  if (lane_index() == kWarp - 1) shared.warp_sums[warp_index()] = sum;
  sync_block();
  total = 0;
  int before = 0;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) {
    if (w == warp_index()) before = total;
    total += shared.warp_sums[w];
  }
  return before + sum - value;
}

__global__ void __launch_bounds__(kThreads) list_kernel(const __grid_constant__ ListArguments a) {
  auto& shared = shared_storage<ListStorage>();
  const int n = a.problem.num_sequences;
  int base = 0;
  for (int first = 0; first < n; first += kThreads) {
    const int i = first + thread_index();
    int count = 0, total = 0;
    if (i < n) {
      const AttentionTile s = read_sequence(a.problem, i);
      count = ceil_div(a.side == TileSide::queries ? s.q_length : s.k_length, a.tile_rows);
    }
    const int before = sum_before(count, shared, total);
    if (i < n) a.counts[i] = base + before;
    base += total;
  }
  if (thread_index() == 0) a.counts[n] = base;
  if (base > a.num_entries) kernel_fault("sequences overlap");
  sync_block();
  const bool last_first = a.side == TileSide::queries && a.problem.causal;
  for (int e = thread_index(); e < a.num_entries; e += kThreads) {
    if (e >= base) {
      a.tiles[e] = {0, 0, 0, 0, -1};
      continue;
    }
    int low = 0, high = n - 1;  // the first sequence whose tiles end behind e
    while (low < high) {
      const int middle = low + (high - low) / 2;
      if (a.counts[middle + 1] > e) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    AttentionTile tile = read_sequence(a.problem, low);
    const int index = last_first ? a.counts[low + 1] - 1 - e : e - a.counts[low];
    tile.first = index * a.tile_rows;
    a.tiles[e] = tile;
  }
}

}  // namespace

void list_tiles(const AttentionProblem& problem, TileSide side, int tile_rows, int32_t* counts,
                AttentionTile* tiles, KernelStream stream) {
  const int rows = side == TileSide::queries ? problem.num_queries : problem.num_keys;
  const int64_t entries = attention_tiles(rows, problem.num_sequences, tile_rows);
  if (entries == 0) return;
  launch({"attention_tiles", 1, kThreads, sizeof(ListStorage)}, stream, list_kernel,
         ListArguments{problem, side, tile_rows, int(entries), counts, tiles});
}

}  // namespace forja::kernels
