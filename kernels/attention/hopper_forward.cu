// SPDX-License-Identifier: Apache-2.0
// Forward attention of Hopper. Source: Shah et al., "FlashAttention-3", 2024, sections 3.1 and 3.2;
// the algorithm is forward.cu's, the frame hopper.cuh's.
//
// Resident is a tile of queries, 64 rows for each consumer (two of them; three for heads of 64);
// keys and values pass by, 128 at a time, from the last that any query sees to the first, so that
// tiles that need a mask or end behind the sequence come first. Two things keep the tensor cores
// busy while threads compute exponentials:
//   - a consumer begins the scores of the next tile before it adds this one's values: it turns the
//     former into probabilities while the latter go on;
//   - consumers take turns (barriers of threads in a ring) to begin their products, so that one
//     computes exponentials while the other multiplies.
// Probabilities stay in registers: the accumulator of the first product is the left operand of the
// second.
//
// Floor: 4 D flops a visible pair at the tensor cores' rate; for heads of 64 the exponentials, 16 a
// cycle, take as long.
#include <cmath>

#include "kernels/attention/hopper.cuh"
#include "kernels/attention/tile_list.h"

namespace forja::kernels {
namespace hopper_forward {

template <int kDim_, int kConsumers_, int kProducerRegisters_, int kRegisters_>
struct Shape {
  static constexpr int kDim = kDim_, kConsumers = kConsumers_, kRows = 64 * kConsumers;
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup, kWarps = kConsumers * 4;
  static constexpr int kColumns = 128, kStages = 2;
  static constexpr int kProducerRegisters = kProducerRegisters_, kRegisters = kRegisters_;
  using Queries = TileRows<kDim, kRows>;
  using Keys = TileRows<kDim, kColumns>;
  // Barriers of threads.
  static constexpr int kTurns = 1, kOwn = 1 + kConsumers;

  struct Storage {
    Queries q;
    SharedArray<Keys, kStages> k, v;
    SharedArray<Mbarrier, kStages> k_full, k_empty, v_full, v_empty;
    WorkSlot slot;
  };
};

struct Arguments {
  AttentionForward a;
  TensorMap q, k, v;
  WorkList list;
};

template <class C>
__device__ __forceinline__ void produce(typename C::Storage& shared, const Arguments& args) {
  for (const TensorMap* map : {&args.q, &args.k, &args.v}) prefetch_tensor_map(*map);
  Ring<C::kStages> ring;
  for (uint32_t phase = 0;; phase ^= 1) {
    const Work work = next_work(shared.slot, args.list, phase, C::Queries::kBytes);
    const AttentionTile& tile = work.tile;
    if (tile.first < 0) return;
    load_rows(shared.q, args.q, shared.slot.full[0], work.head, tile.q_begin + tile.first);
    load_keys<C>(shared, args.a.problem, args.k, args.v, work, ring);
  }
}

// Of a thread's two rows so far: maxima of the scaled scores, base 2, and sums of this thread's
// columns alone.
struct RowSoftmax {
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};

  // scores -> probabilities relative to the new maxima; `factor` brings older sums to those.
  template <int kBlocks>
  __device__ __forceinline__ void take(float (&scores)[kBlocks][4], float scale,
                                       float (&factor)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float largest = -INFINITY;
#pragma unroll
      for (int j = 0; j < kBlocks; ++j)
        largest = fmaxf(largest, fmaxf(scores[j][2 * h], scores[j][2 * h + 1]));
      const float now = fmaxf(maximum[h], warp_reduce<Max, 4>(largest) * scale);
      // Nothing seen so far: any finite reference will do.
      const float reference = now == -INFINITY ? 0.0f : now;
      float total = 0.0f;
#pragma unroll
      for (int j = 0; j < kBlocks; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& x = scores[j][2 * h + c];
          x = fast_exp2(x * scale - reference);
          total += x;
        }
      factor[h] = fast_exp2(maximum[h] - reference);
      maximum[h] = now;
      sum[h] = sum[h] * factor[h] + total;
    }
  }
};

template <int kBlocks>
__device__ __forceinline__ void scale_rows(float (&sums)[kBlocks][4], const float (&factor)[2]) {
  if (!any_lane(factor[0] != 1.0f || factor[1] != 1.0f)) return;
#pragma unroll
  for (int j = 0; j < kBlocks; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[j][e] *= factor[e / 2];
}

// 1 / sum of each row, and lse where it is wanted.
__device__ __forceinline__ void finish(const AttentionForward& a, const RowSoftmax& softmax,
                                       const Work& work, int query, float (&factor)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float sum = warp_reduce<Sum, 4>(softmax.sum[h]);
    factor[h] = sum == 0.0f ? 0.0f : 1.0f / sum;
    const int row = query + 8 * h + lane_index() / 4;
    if (a.lse != nullptr && lane_index() % 4 == 0 && row < work.tile.q_length) {
      a.lse[work.head * a.lse_stride + work.tile.q_begin + row] =
          sum == 0.0f ? -INFINITY : (softmax.maximum[h] + fast_log2(sum)) * kLn2;
    }
  }
}

// One tile of queries, of which the calling warpgroup has the 64 rows of its consumer.
template <class C>
__device__ __forceinline__ void attend(typename C::Storage& shared, const AttentionForward& a,
                                       const Work& work, int consumer, uint32_t& step) {
  using Keys = typename C::Keys;
  using Step = StepOf<C::kStages>;
  const AttentionProblem& p = a.problem;
  const AttentionTile& tile = work.tile;
  const Visibility visible(tile, p);
  const Passing keys = keys_of(tile, visible, C::kRows, C::kColumns);
  const float scale = p.scale * kLog2e;
  const MatrixDescriptor q = shared.q.along_columns(64 * consumer);
  const MatrixDescriptor first_k = shared.k[0].along_columns(), first_v = shared.v[0].along_rows();
  // All of the warp's rows see the keys between.
  const int query = tile.first + 64 * consumer + warp_index() % 4 * 16;
  const int last_query = std::min(query + 16, tile.q_length) - 1;
  const int inner_first = visible.first_key(last_query), inner_end = visible.end_key(query);

  float out[C::kDim / 8][4], factor[2];
  clear_sums(out);
  RowSoftmax softmax;
  int key = keys.last();
  if (key >= keys.first) {
    float scores[C::kColumns / 8][4];
    uint32_t p_left[C::kColumns / 16][4];
    const auto begin_scores = [&](Step at) {
      wait_mbarrier(shared.k_full[at.stage], at.phase, "mbarrier k_full");
      fence_products();
      multiply_rows<typename C::Queries, Keys>(scores, q,
                                               advance(first_k, at.stage * Keys::kBytes));
      commit_products();
    };
    const auto end_scores = [&](Step at) {
      take_products(scores);
      give_back(shared.k_empty[at.stage]);
      if (key < inner_first || key + C::kColumns > inner_end)
        mask_keys(scores, visible, query, key, -INFINITY);
      softmax.take(scores, scale, factor);
    };
    const auto begin_values = [&](Step at) {
      wait_mbarrier(shared.v_full[at.stage], at.phase, "mbarrier v_full");
      fence_products();
      add_products<Keys>(out, p_left, advance(first_v, at.stage * Keys::kBytes));
      commit_products();
    };
    const auto end_values = [&](Step at) {
      wait_products<0>();
      take_products(out);
      give_back(shared.v_empty[at.stage]);
    };
    begin_scores(Step(step));
    wait_products<0>();
    end_scores(Step(step));
    pack_left(scores, p_left);
    if (key + C::kColumns > tile.k_length) {
      const Step at(step);
      wait_mbarrier(shared.v_full[at.stage], at.phase, "mbarrier v_full");
      clear_rows(shared.v[at.stage], tile.k_length - key, C::kOwn + consumer);
    }
    for (key -= C::kColumns, ++step; key >= keys.first; key -= C::kColumns, ++step) {
      sync_threads(C::kTurns + consumer, 2 * kWarpgroup);
      begin_scores(Step(step));
      begin_values(Step(step - 1));
      arrive_threads(C::kTurns + (consumer + 1) % C::kConsumers, 2 * kWarpgroup);
      wait_products<1>();
      end_scores(Step(step));
      end_values(Step(step - 1));
      scale_rows(out, factor);
      pack_left(scores, p_left);
    }
    give_back(shared.slot.empty[0]);
    begin_values(Step(step - 1));
    end_values(Step(step - 1));
  } else {
    give_back(shared.slot.empty[0]);
  }
  finish(a, softmax, work, query, factor);
  store_rows(out, factor, a.out, tile.q_begin, work.head, query, tile.q_length, p.head_size);
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
    lower_registers<C::kProducerRegisters>();
    if (thread_index() == 0) produce<C>(shared, args);
    return;
  }
  raise_registers<C::kRegisters>();
  const int consumer = group - 1;
  uint32_t step = 0;
  // The first turn is the first consumer's.
  if (consumer == C::kConsumers - 1) arrive_threads(C::kTurns, 2 * kWarpgroup);
  for_each_work(shared.slot,
                [&](const Work& work) { attend<C>(shared, args.a, work, consumer, step); });
#endif
}

template <class C>
void run(const AttentionForward& a, KernelStream stream) {
  const char* name = "attention_forward_hopper";
  const AttentionProblem& p = a.problem;
  list_tiles(p, TileSide::queries, C::kRows, a.counts, a.tiles, stream);
  const int tiles = int(attention_tiles(p.num_queries, p.num_sequences, C::kRows));
  const int group = p.num_heads / p.num_key_heads;
  const WorkList list = {a.tiles, a.counts, tiles, p.num_heads,
                         heads_at_once(p.num_keys, p.head_size, p.num_heads, group)};
  const int blocks = std::min(tiles * p.num_heads, num_multiprocessors());
  launch(
      {name, unsigned(blocks), C::kThreads, sizeof(typename C::Storage)}, stream, kernel<C>,
      Arguments{a, make_map(name, a.q, p.num_queries, p.num_heads, p.head_size, C::kRows),
                make_map(name, a.k, p.num_keys, p.num_key_heads, p.head_size, C::kColumns),
                make_map(name, a.v, p.num_keys, p.num_key_heads, p.head_size, C::kColumns), list});
}

}  // namespace hopper_forward

void attention_forward_hopper(const AttentionForward& a, KernelStream stream) {
  using namespace hopper_forward;
  if (a.problem.head_size <= 64) return run<Shape<64, 3, 32, 160>>(a, stream);
  run<Shape<128, 2, 24, 240>>(a, stream);
}

}  // namespace forja::kernels
