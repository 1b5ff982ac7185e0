// SPDX-License-Identifier: Apache-2.0
// dQ of Hopper: the algorithm of backward_queries.cu in the frame of hopper.cuh.
//
// Resident is a tile of 128 queries and dout of one head, 64 rows for each of two consumers; keys
// and values pass by, 128 at a time, from the last to the first:
//   P = 2^(Q K^T - L),  dS = P (dO V^T - delta),  dQ += dS K,
// dS being a left operand from registers. The scores of a tile begin before the sums of the one
// before have ended; a consumer's exponentials and gradients are computed beside its own dO V^T and
// the products of the other.
//
// Floor: 6 D flops a visible pair.
#include <cmath>

#include "kernels/attention/hopper.cuh"
#include "kernels/attention/tile_list.h"

namespace forja::kernels {
namespace hopper_backward_queries {

template <int kDim_>
struct Shape {
  static constexpr int kDim = kDim_, kConsumers = 2, kRows = 64 * kConsumers;
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup, kWarps = kConsumers * 4;
  static constexpr int kColumns = 128, kStages = 2;
  using Queries = TileRows<kDim, kRows>;
  using Keys = TileRows<kDim, kColumns>;
  static constexpr int kOwn = 1;  // barriers of threads

  struct Storage {
    Queries q, dout;
    SharedArray<Keys, kStages> k, v;
    SharedArray<Mbarrier, kStages> k_full, k_empty, v_full, v_empty;
    WorkSlot slot;
  };
};

struct Arguments {
  AttentionBackward a;
  TensorMap q, k, v, dout;
  WorkList list;
};

template <class C>
__device__ __forceinline__ void produce(typename C::Storage& shared, const Arguments& args) {
  for (const TensorMap* map : {&args.q, &args.k, &args.v, &args.dout}) prefetch_tensor_map(*map);
  Ring<C::kStages> ring;
  for (uint32_t phase = 0;; phase ^= 1) {
    const Work work = next_work(shared.slot, args.list, phase, 2 * C::Queries::kBytes);
    const AttentionTile& tile = work.tile;
    if (tile.first < 0) return;
    load_rows(shared.q, args.q, shared.slot.full[0], work.head, tile.q_begin + tile.first);
    load_rows(shared.dout, args.dout, shared.slot.full[0], work.head, tile.q_begin + tile.first);
    load_keys<C>(shared, args.a.problem, args.k, args.v, work, ring);
  }
}

// One tile of queries, of which the calling warpgroup has the 64 rows of its consumer.
template <class C>
__device__ __forceinline__ void differentiate(typename C::Storage& shared,
                                              const AttentionBackward& a, const Work& work,
                                              int consumer, uint32_t& step) {
  using Keys = typename C::Keys;
  using Queries = typename C::Queries;
  using Step = StepOf<C::kStages>;
  const AttentionProblem& p = a.problem;
  const AttentionTile& tile = work.tile;
  const Visibility visible(tile, p);
  const Passing keys = keys_of(tile, visible, C::kRows, C::kColumns);
  const float scale = p.scale * kLog2e;
  const MatrixDescriptor q = shared.q.along_columns(64 * consumer);
  const MatrixDescriptor dout = shared.dout.along_columns(64 * consumer);
  const MatrixDescriptor k_columns = shared.k[0].along_columns(), k_rows = shared.k[0].along_rows();
  const MatrixDescriptor v_columns = shared.v[0].along_columns();
  // All of the warp's rows see the keys between.
  const int query = tile.first + 64 * consumer + warp_index() % 4 * 16;
  const int last_query = std::min(query + 16, tile.q_length) - 1;
  const int inner_first = visible.first_key(last_query), inner_end = visible.end_key(query);
  AttentionStatistics statistics[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = query + 8 * h + lane_index() / 4;
    statistics[h] = {INFINITY, 0.0f};
    if (row < tile.q_length)
      statistics[h] = a.statistics[int64_t(work.head) * p.num_queries + tile.q_begin + row];
  }

  float dq[C::kDim / 8][4];
  clear_sums(dq);
  if (keys.first < keys.end) {
    int key = keys.last();
    if (key + C::kColumns > tile.k_length) {
      const Step at(step);
      wait_mbarrier(shared.k_full[at.stage], at.phase, "mbarrier k_full");
      clear_rows(shared.k[at.stage], tile.k_length - key, C::kOwn + consumer);
    }
    float scores[C::kColumns / 8][4], ds[C::kColumns / 8][4];
    uint32_t ds_left[C::kColumns / 16][4];
    for (const uint32_t first_step = step; key >= keys.first; key -= C::kColumns, ++step) {
      const Step at(step);
      const int offset = at.stage * Keys::kBytes;
      wait_mbarrier(shared.k_full[at.stage], at.phase, "mbarrier k_full");
      fence_products();
      multiply_rows<Queries, Keys>(scores, q, advance(k_columns, offset));
      commit_products();
      // Ends the step before. Only now, as registers do not hold more.
      wait_products<1>();
      if (step != first_step) give_back(shared.k_empty[Step(step - 1).stage]);
      wait_mbarrier(shared.v_full[at.stage], at.phase, "mbarrier v_full");
      fence_products();
      multiply_rows<Queries, Keys>(ds, dout, advance(v_columns, offset));
      commit_products();
      wait_products<1>();
      take_products(scores);
#pragma unroll
      for (int j = 0; j < C::kColumns / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          scores[j][e] = fast_exp2(scores[j][e] * scale - statistics[e / 2].log_sum);
      wait_products<0>();
      take_products(ds);
      give_back(shared.v_empty[at.stage]);
#pragma unroll
      for (int j = 0; j < C::kColumns / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) ds[j][e] = scores[j][e] * (ds[j][e] - statistics[e / 2].delta);
      if (key < inner_first || key + C::kColumns > inner_end)
        mask_keys(ds, visible, query, key, 0.0f);
      pack_left(ds, ds_left);
      fence_products();
      add_products<Keys>(dq, ds_left, advance(k_rows, offset));
      commit_products();
    }
    wait_products<0>();
    take_products(dq);
    give_back(shared.k_empty[Step(step - 1).stage]);
  }
  give_back(shared.slot.empty[0]);
  store_rows(dq, {p.scale, p.scale}, a.dq, tile.q_begin, work.head, query, tile.q_length,
             p.head_size);
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) kernel(const __grid_constant__ Arguments args) {
#ifdef FORJA_HOPPER_CODE
  auto& shared = shared_storage<typename C::Storage>();
  if (thread_index() == 0) {
    init_mbarriers(shared.k_full, shared.k_empty, C::kWarps);
    init_mbarriers(shared.v_full, shared.v_empty, C::kWarps);
    init_mbarriers(shared.slot.full, shared.slot.empty, C::kWarps);
    publish_mbarriers();
  }
  sync_block();
  const int group = thread_index() / kWarpgroup;
  if (group == 0) {
    lower_registers<32>();
    if (thread_index() == 0) produce<C>(shared, args);
    return;
  }
  raise_registers<240>();
  uint32_t step = 0;
  for_each_work(shared.slot,
                [&](const Work& work) { differentiate<C>(shared, args.a, work, group - 1, step); });
#endif
}

template <class C>
void run(const AttentionBackward& a, KernelStream stream) {
  const char* name = "attention_backward_queries_hopper";
  const AttentionProblem& p = a.problem;
  list_tiles(p, TileSide::queries, C::kRows, a.counts, a.query_tiles, stream);
  const int tiles = int(attention_tiles(p.num_queries, p.num_sequences, C::kRows));
  const int group = p.num_heads / p.num_key_heads;
  const WorkList list = {a.query_tiles, a.counts, tiles, p.num_heads,
                         heads_at_once(p.num_keys, p.head_size, p.num_heads, group)};
  const int blocks = std::min(tiles * p.num_heads, num_multiprocessors());
  launch(
      {name, unsigned(blocks), C::kThreads, sizeof(typename C::Storage)}, stream, kernel<C>,
      Arguments{a, make_map(name, a.q, p.num_queries, p.num_heads, p.head_size, C::kRows),
                make_map(name, a.k, p.num_keys, p.num_key_heads, p.head_size, C::kColumns),
                make_map(name, a.v, p.num_keys, p.num_key_heads, p.head_size, C::kColumns),
                make_map(name, a.dout, p.num_queries, p.num_heads, p.head_size, C::kRows), list});
}

}  // namespace hopper_backward_queries

void attention_backward_queries_hopper(const AttentionBackward& a, KernelStream stream) {
  using namespace hopper_backward_queries;
  a.problem.head_size <= 64 ? run<Shape<64>>(a, stream) : run<Shape<128>>(a, stream);
}

}  // namespace forja::kernels
