// SPDX-License-Identifier: Apache-2.0
// dK and dV of Hopper: the algorithm of backward_keys.cu in the frame of hopper.cuh.
//
// Resident is a tile of 128 keys and values of one key head, 64 for each of two consumers; of every
// query head of its group, queries, dout and their statistics pass by, 64 rows at a time (128 where
// heads have 64 columns), from the last that sees any of the keys to the first. Scores are
// transposed, keys being the rows of the accumulators, so that P^T and dS^T are left operands from
// registers:
//   S^T = K Q^T,  dP^T = V dO^T,  dV += P^T dO,  dK += dS^T Q.
// The S^T of a step begins before the sums of the one before have ended, and dP^T goes on beside
// the exponentials; what a consumer computes then is covered by the products of the other. Each sum
// is one thread's, in a fixed order.
//
// Floor: 8 D flops a visible pair. For heads of 128, the first two products read both operands from
// shared memory at the 128 bytes a cycle that it has; the other two need half of that. The sums
// take 128 registers of a thread, scores, products and left operands 96 of the other 112.
#include <cmath>

#include "kernels/attention/hopper.cuh"
#include "kernels/attention/tile_list.h"

namespace forja::kernels {
namespace hopper_backward_keys {

template <int kDim_, int kColumns_>
struct Shape {
  static constexpr int kDim = kDim_, kConsumers = 2, kRows = 64 * kConsumers;
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup, kWarps = kConsumers * 4;
  static constexpr int kColumns = kColumns_, kStages = 4;
  using Keys = TileRows<kDim, kRows>;
  using Queries = TileRows<kDim, kColumns>;
  static constexpr int kOwn = 1;  // barriers of threads

  struct Stage {
    Queries q, dout;
  };
  struct Storage {
    Keys k, v;
    SharedArray<Stage, kStages> stages;
    // log_sum and delta of the queries of each stage.
    alignas(16) SharedArray<float, kStages * kColumns> log_sums, deltas;
    SharedArray<Mbarrier, kStages> full, empty;
    WorkSlot slot;
  };
};

struct Arguments {
  AttentionBackward a;
  TensorMap q, k, v, dout;
  WorkList list;
};

// By one warp: its first lane sees to the copies, all of them to the statistics.
template <class C>
__device__ __forceinline__ void produce(typename C::Storage& shared, const Arguments& args) {
  const AttentionProblem& p = args.a.problem;
  const bool leader = lane_index() == 0;
  const int group = p.num_heads / p.num_key_heads;
  for (const TensorMap* map : {&args.q, &args.k, &args.v, &args.dout}) prefetch_tensor_map(*map);
  Ring<C::kStages> ring;
  for (uint32_t phase = 0;; phase ^= 1) {
    if (leader) next_work(shared.slot, args.list, phase, 2 * C::Keys::kBytes);
    sync_warp();
    const Work work = shared.slot.work[0];
    sync_warp();  // before the next is there
    const AttentionTile& tile = work.tile;
    if (tile.first < 0) return;
    if (leader) {
      load_rows(shared.k, args.k, shared.slot.full[0], work.head, tile.k_begin + tile.first);
      load_rows(shared.v, args.v, shared.slot.full[0], work.head, tile.k_begin + tile.first);
    }
    const Passing queries = queries_of(tile, Visibility(tile, p), C::kRows, C::kColumns);
    for (int head = work.head * group; head < (work.head + 1) * group; ++head) {
      for (int query = queries.last(); query >= queries.first; query -= C::kColumns) {
        wait_mbarrier(shared.empty[ring.stage], ring.phase ^ 1, "mbarrier empty");
        if (leader) {
          auto& stage = shared.stages[ring.stage];
          Mbarrier& full = shared.full[ring.stage];
          load_rows(stage.q, args.q, full, head, tile.q_begin + query);
          load_rows(stage.dout, args.dout, full, head, tile.q_begin + query);
        }
        const AttentionStatistics* from =
            args.a.statistics + int64_t(head) * p.num_queries + tile.q_begin + query;
        for (int row = lane_index(); row < C::kColumns; row += kWarp) {
          // Behind the last query, probabilities shall be zero.
          AttentionStatistics s{INFINITY, 0.0f};
          if (query + row < tile.q_length) s = from[row];
          shared.log_sums[ring.stage * C::kColumns + row] = s.log_sum;
          shared.deltas[ring.stage * C::kColumns + row] = s.delta;
        }
        sync_warp();
        if (leader) arrive_mbarrier_expect(shared.full[ring.stage], 2 * C::Queries::kBytes);
        ring.advance();
      }
    }
  }
}

// Of a thread's two columns in block j, numbers that belong to columns.
__device__ __forceinline__ void load_columns(const float* values, int j, float (&pair)[2]) {
  const Bits8 bits = load8(values + 8 * j + lane_index() % 4 * 2);
  memcpy(pair, bits.word, 8);
}

// scores -> probabilities.
template <int kBlocks>
__device__ __forceinline__ void probabilities(float (&scores)[kBlocks][4], float scale,
                                              const float* log_sums) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
    float log_sum[2];
    load_columns(log_sums, j, log_sum);
#pragma unroll
    for (int e = 0; e < 4; ++e) scores[j][e] = fast_exp2(scores[j][e] * scale - log_sum[e % 2]);
  }
}

// products of dout and values -> dscores.
template <int kBlocks>
__device__ __forceinline__ void score_gradients(const float (&p)[kBlocks][4], const float* deltas,
                                                float (&products)[kBlocks][4]) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
    float delta[2];
    load_columns(deltas, j, delta);
#pragma unroll
    for (int e = 0; e < 4; ++e) products[j][e] = p[j][e] * (products[j][e] - delta[e % 2]);
  }
}

// One tile of keys, of which the calling warpgroup has the 64 rows of its consumer.
template <class C>
__device__ __forceinline__ void differentiate(typename C::Storage& shared,
                                              const AttentionBackward& a, const Work& work,
                                              int consumer, uint32_t& step) {
  using Keys = typename C::Keys;
  using Queries = typename C::Queries;
  using Step = StepOf<C::kStages>;
  constexpr int kStageBytes = int(sizeof(typename C::Stage));
  const AttentionProblem& p = a.problem;
  const AttentionTile& tile = work.tile;
  const Visibility visible(tile, p);
  const Passing queries = queries_of(tile, visible, C::kRows, C::kColumns);
  const float scale = p.scale * kLog2e;
  const MatrixDescriptor k = shared.k.along_columns(64 * consumer);
  const MatrixDescriptor v = shared.v.along_columns(64 * consumer);
  auto& first = shared.stages[0];
  const MatrixDescriptor q_columns = first.q.along_columns(), q_rows = first.q.along_rows();
  const MatrixDescriptor dout_columns = first.dout.along_columns(),
                         dout_rows = first.dout.along_rows();
  // The queries between see all of the warp's keys.
  const int key = tile.first + 64 * consumer + warp_index() % 4 * 16;
  const int last_key = std::min(key + 16, tile.k_length) - 1;
  const int inner_first = visible.first_query(last_key), inner_end = visible.end_query(key);

  float dk[C::kDim / 8][4], dv[C::kDim / 8][4];
  clear_sums(dk);
  clear_sums(dv);
  const int group = p.num_heads / p.num_key_heads;
  for (int head = 0; head < group && queries.first < queries.end; ++head) {
    int query = queries.last();
    if (query + C::kColumns > tile.q_length) {
      const Step at(step);
      wait_mbarrier(shared.full[at.stage], at.phase, "mbarrier full");
      clear_rows(shared.stages[at.stage].q, tile.q_length - query, C::kOwn + consumer);
      clear_rows(shared.stages[at.stage].dout, tile.q_length - query, C::kOwn + consumer);
    }
    float scores[1][C::kColumns / 8][4], products[C::kColumns / 8][4];
    uint32_t p_left[C::kColumns / 16][4], ds_left[C::kColumns / 16][4];
    const uint32_t first_step = step;
    for (; query >= queries.first; query -= C::kColumns, ++step) {
      const Step at(step);
      const int offset = at.stage * kStageBytes;
      wait_mbarrier(shared.full[at.stage], at.phase, "mbarrier full");
      fence_products();
      multiply_rows<Keys, Queries>(scores[0], k, advance(q_columns, offset));
      commit_products();
      // Ends the step before. Only now, as registers do not hold more.
      wait_products<1>();
      if (step != first_step) give_back(shared.empty[Step(step - 1).stage]);
      fence_products();
      multiply_rows<Keys, Queries>(products, v, advance(dout_columns, offset));
      commit_products();
      wait_products<1>();
      take_products(scores[0]);
      probabilities(scores[0], scale, shared.log_sums.at(at.stage * C::kColumns, C::kColumns));
      if (query < inner_first || query + C::kColumns > inner_end)
        mask_queries(scores, visible, key, query);
      wait_products<0>();
      take_products(products);
      score_gradients(scores[0], shared.deltas.at(at.stage * C::kColumns, C::kColumns), products);
      pack_left(scores[0], p_left);
      pack_left(products, ds_left);
      fence_products();
      add_products<Queries>(dv, p_left, advance(dout_rows, offset));
      add_products<Queries>(dk, ds_left, advance(q_rows, offset));
      commit_products();
    }
    wait_products<0>();
    take_products(dv);
    take_products(dk);
    give_back(shared.empty[Step(step - 1).stage]);
  }
  give_back(shared.slot.empty[0]);
  store_rows(dk, {p.scale, p.scale}, a.dk, tile.k_begin, work.head, key, tile.k_length,
             p.head_size);
  store_rows(dv, {1.0f, 1.0f}, a.dv, tile.k_begin, work.head, key, tile.k_length, p.head_size);
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) kernel(const __grid_constant__ Arguments args) {
#ifdef FORJA_HOPPER_CODE
  auto& shared = shared_storage<typename C::Storage>();
  if (thread_index() == 0) {
    init_mbarriers(shared.full, shared.empty, C::kWarps);
    init_mbarriers(shared.slot.full, shared.slot.empty, C::kWarps);
    publish_mbarriers();
  }
  sync_block();
  const int group = thread_index() / kWarpgroup;
  if (group == 0) {
    lower_registers<32>();
    if (warp_index() == 0) produce<C>(shared, args);
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
  const char* name = "attention_backward_keys_hopper";
  const AttentionProblem& p = a.problem;
  list_tiles(p, TileSide::keys, C::kRows, a.counts, a.key_tiles, stream);
  const int tiles = int(attention_tiles(p.num_keys, p.num_sequences, C::kRows));
  const int64_t group = p.num_heads / p.num_key_heads;
  const WorkList list = {a.key_tiles, a.counts, tiles, p.num_key_heads,
                         heads_at_once(p.num_queries * group, p.head_size, p.num_key_heads, 1)};
  const int blocks = std::min(tiles * p.num_key_heads, num_multiprocessors());
  launch({name, unsigned(blocks), C::kThreads, sizeof(typename C::Storage)}, stream, kernel<C>,
         Arguments{a, make_map(name, a.q, p.num_queries, p.num_heads, p.head_size, C::kColumns),
                   make_map(name, a.k, p.num_keys, p.num_key_heads, p.head_size, C::kRows),
                   make_map(name, a.v, p.num_keys, p.num_key_heads, p.head_size, C::kRows),
                   make_map(name, a.dout, p.num_queries, p.num_heads, p.head_size, C::kColumns),
                   list});
}

}  // namespace hopper_backward_keys

void attention_backward_keys_hopper(const AttentionBackward& a, KernelStream stream) {
  using namespace hopper_backward_keys;
  a.problem.head_size <= 64 ? run<Shape<64, 128>>(a, stream) : run<Shape<128, 64>>(a, stream);
}

}  // namespace forja::kernels
