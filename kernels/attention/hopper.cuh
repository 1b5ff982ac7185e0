// SPDX-License-Identifier: Apache-2.0
// What the kernels of attention on Hopper share: tiles as the copy engine leaves them and wgmma
// reads them, the work of a block, and how sums leave the registers.
//
// All three have the same frame. Blocks stay, one a multiprocessor. The first warpgroup is the
// producer: one of its warps takes pieces of work (a tile of one head) from a counter in global
// memory, which evens out what documents and masks make uneven, and fetches, first, what the tile
// itself needs ("resident": one buffer), then what passes by (rings of two or four stages). The
// others are consumers with 64 rows of the tile each. The producer is a tile ahead where the
// buffers allow it: a tile's first copies overlap the last tile's stores. A piece of work travels
// through shared memory behind the barriers of the resident buffer; one without a tile ends all.
//
// Tiles are not cut off at the end of a sequence, as the copy engine knows only tensors: behind it
// come rows of the next sequence, or of none, which may hold anything. Scores are masked; an
// operand that is summed over such rows has them cleared, for 0 x NaN is NaN (clear_rows).
#pragma once

#include "kernels/attention/hopper.h"
#include "kernels/attention/products.cuh"
#include "kernels/common/launch.h"
#include "kernels/common/wgmma.cuh"

namespace forja::kernels {

constexpr float kLog2e = 1.44269504f;
constexpr float kLn2 = 0.693147181f;

// ---- Tiles in shared memory.

// kNumRows rows of a head, in blocks of 64 columns; zeros behind its last column.
template <int kDim_, int kNumRows_>
struct TileRows {
  static constexpr int kDim = kDim_, kNumRows = kNumRows_, kBytes = kDim * kNumRows * 2;
  static constexpr int kBlockElements = kNumRows * 64;
  static_assert(kDim % 64 == 0 && kNumRows % 8 == 0 && kNumRows <= 256);

  alignas(1024) SharedArray<BFloat16, kDim * kNumRows> elements;

  // Rows [row, ...) summed over columns; the next 16 columns are column_step() further on.
  __device__ __forceinline__ MatrixDescriptor along_columns(int row = 0) {
    return make_descriptor(elements.at(row * 64), 16, 1024);
  }
  static __device__ __forceinline__ constexpr int column_step(int i) {
    return i / 4 * kBlockElements * 2 + i % 4 * 32;
  }
  // Columns summed over rows; the next 16 rows are kRowStep further on.
  __device__ __forceinline__ MatrixDescriptor along_rows() {
    return make_descriptor(elements.at(0), kBlockElements * 2, 1024);
  }
  static constexpr int kRowStep = 16 * 128;
};

// Rows [row, row + kNumRows) of a head. By one thread.
template <class Tile>
__device__ __forceinline__ void load_rows(Tile& to, const TensorMap& map, Mbarrier& barrier,
                                          int head, int row) {
#pragma unroll
  for (int column = 0; column < Tile::kDim; column += 64)
    load_tile(to.elements.at(column * Tile::kNumRows, Tile::kBlockElements), map, barrier, column,
              head, row);
}

// Zeros from row `first` on, by all threads of a warpgroup: each clears for itself (others may do
// the same, nobody sees anything but zeros after its own call). `id` is the warpgroup's barrier.
template <class Tile>
__device__ __forceinline__ void clear_rows(Tile& tile, int first, int id) {
  for (int i = thread_index() % kWarpgroup; i < Tile::kBytes / 16; i += kWarpgroup)
    if (i / 8 % Tile::kNumRows >= first) store16(tile.elements.at(8 * i, 8), Bits16{});
  publish_to_engines();
  sync_threads(id, kWarpgroup);
}

// ---- Products.

// c [64, rows of B] = a b^T over the columns, for operands along_columns() of tiles A and B.
template <class A, class B, int kBlocks>
__device__ __forceinline__ void multiply_rows(float (&c)[kBlocks][4], MatrixDescriptor a,
                                              MatrixDescriptor b) {
  static_assert(A::kDim == B::kDim && B::kNumRows == 8 * kBlocks);
#pragma unroll
  for (int i = 0; i < A::kDim / 16; ++i)
    multiply<Rows::k, Rows::k>(c, advance(a, A::column_step(i)), advance(b, B::column_step(i)),
                               i > 0);
}

// sums [64, columns of B] += a b, for b along_rows() and all its rows.
template <class B, int kSteps, int kBlocks>
__device__ __forceinline__ void add_products(float (&sums)[kBlocks][4],
                                             const uint32_t (&a)[kSteps][4], MatrixDescriptor b) {
  static_assert(B::kNumRows == 16 * kSteps && B::kDim == 8 * kBlocks);
#pragma unroll
  for (int k = 0; k < kSteps; ++k)
    multiply<Rows::outer>(sums, a[k], advance(b, k * B::kRowStep), true);
}

// Rounded to bf16, an accumulator is a left operand.
template <int kBlocks>
__device__ __forceinline__ void pack_left(const float (&c)[kBlocks][4],
                                          uint32_t (&a)[kBlocks / 2][4]) {
#pragma unroll
  for (int k = 0; k < kBlocks / 2; ++k)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float(&from)[4] = c[2 * k + e / 2];
      a[k][e] = pack_bf16(from[e % 2 * 2], from[e % 2 * 2 + 1]);
    }
}

template <int kBlocks>
__device__ __forceinline__ void clear_sums(float (&sums)[kBlocks][4]) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[j][e] = 0.0f;
}

// The warp's 16 rows from `row` on, of which those below `end` exist, each times its factor, and of
// their columns the first `head_size`.
template <int kBlocks>
__device__ __forceinline__ void store_rows(const float (&sums)[kBlocks][4],
                                           const float (&factor)[2], const AttentionRows& to,
                                           int first_row, int head, int row, int end,
                                           int head_size) {
  const int lane = lane_index();
  row += lane / 4;
  BFloat16* at = static_cast<BFloat16*>(to.data) + (first_row + row) * to.row_stride +
                 head * to.head_stride + lane % 4 * 8;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int j = 0; j < kBlocks; j += 4) {
      uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        words[i] = pack_bf16(sums[j + i][2 * h] * factor[h], sums[j + i][2 * h + 1] * factor[h]);
      transpose_quad(words);
      if (row + 8 * h < end && 8 * (j + lane % 4) < head_size)
        store16(at + 8 * h * to.row_stride + 8 * j, {{words[0], words[1], words[2], words[3]}});
    }
  }
}

// ---- Work.

// The rows that a tile meets: in tiles of `size` at first, first + size, ... below end; they come
// by from the last on.
struct Passing {
  int first, end, size;
  // Below `first` where there are none.
  __device__ __forceinline__ int last() const {
    return end > first ? first + (end - 1 - first) / size * size : first - 1;
  }
};
__device__ __forceinline__ Passing keys_of(const AttentionTile& queries, const Visibility& visible,
                                           int rows, int size) {
  const int end_query = std::min(queries.first + rows, queries.q_length);
  return {visible.first_key(queries.first), visible.end_key(end_query - 1), size};
}
__device__ __forceinline__ Passing queries_of(const AttentionTile& keys, const Visibility& visible,
                                              int rows, int size) {
  const int end_key = std::min(keys.first + rows, keys.k_length);
  return {visible.first_query(keys.first), visible.end_query(end_key - 1), size};
}

struct Work {
  AttentionTile tile;  // first is -1: there is no more
  int head;
};

// All tiles of all heads. `heads_at_once` heads take turns, tile by tile, so that what they read
// stays in the L2 cache; then come the next.
struct WorkList {
  const AttentionTile* tiles;
  int32_t* next;  // begins at 0
  int num_tiles, num_heads, heads_at_once;
};

__device__ __forceinline__ Work take_work(const WorkList& list) {
  const int section = list.num_tiles * list.heads_at_once;
  for (;;) {
    const int at = atomic_add(list.next, 1);
    if (at >= list.num_tiles * list.num_heads) return {{0, 0, 0, 0, -1}, 0};
    const int first_head = at / section * list.heads_at_once, rest = at % section;
    const int heads = std::min(list.heads_at_once, list.num_heads - first_head);
    const AttentionTile tile = list.tiles[rest / heads];
    if (tile.first >= 0) return {tile, first_head + rest % heads};
  }
}

// The resident buffer's barriers, and the work that it is for.
struct WorkSlot {
  SharedArray<Work, 1> work;
  SharedArray<Mbarrier, 1> full, empty;
};

// Barriers of a buffer or a ring of them: filled by one thread, read by so many warps.
template <int kStages>
__device__ __forceinline__ void init_mbarriers(SharedArray<Mbarrier, kStages>& full,
                                               SharedArray<Mbarrier, kStages>& empty,
                                               int num_warps) {
  for (int i = 0; i < kStages; ++i) {
    init_mbarrier(full[i], 1);
    init_mbarrier(empty[i], num_warps);
  }
}

// Of the step-th tile that passes by: its place in a ring, and the parity of the phase.
template <int kStages>
struct StepOf {
  int stage;
  uint32_t phase;
  __device__ __forceinline__ explicit StepOf(uint32_t step)
      : stage(int(step % kStages)), phase(step / kStages % 2) {}
};

// The producer's: waits for the slot and fills it; the caller then loads `bytes`, unless it ends.
__device__ __forceinline__ Work next_work(WorkSlot& slot, const WorkList& list, uint32_t phase,
                                          int bytes) {
  const Work work = take_work(list);
  // Of the phase before: the first time round, the slot is empty.
  wait_mbarrier(slot.empty[0], phase ^ 1, "mbarrier empty slot");
  slot.work[0] = work;
  if (work.tile.first >= 0)
    arrive_mbarrier_expect(slot.full[0], bytes);
  else
    arrive_mbarrier(slot.full[0]);
  return work;
}

// The producer's: the keys and values that a tile of queries meets, to rings of the storage.
template <class C>
__device__ __forceinline__ void load_keys(typename C::Storage& shared, const AttentionProblem& p,
                                          const TensorMap& k, const TensorMap& v, const Work& work,
                                          Ring<C::kStages>& ring) {
  const AttentionTile& tile = work.tile;
  const int head = work.head / (p.num_heads / p.num_key_heads);
  const Passing keys = keys_of(tile, Visibility(tile, p), C::kRows, C::kColumns);
  for (int key = keys.last(); key >= keys.first; key -= C::kColumns) {
    const int stage = ring.stage, row = tile.k_begin + key;
    wait_mbarrier(shared.k_empty[stage], ring.phase ^ 1, "mbarrier k_empty");
    arrive_mbarrier_expect(shared.k_full[stage], C::Keys::kBytes);
    load_rows(shared.k[stage], k, shared.k_full[stage], head, row);
    wait_mbarrier(shared.v_empty[stage], ring.phase ^ 1, "mbarrier v_empty");
    arrive_mbarrier_expect(shared.v_full[stage], C::Keys::kBytes);
    load_rows(shared.v[stage], v, shared.v_full[stage], head, row);
    ring.advance();
  }
}

// The consumers': attend(work) for every piece until the last. It gives the slot back.
template <class Attend>
__device__ __forceinline__ void for_each_work(WorkSlot& slot, const Attend& attend) {
  for (uint32_t phase = 0;; phase ^= 1) {
    wait_mbarrier(slot.full[0], phase, "mbarrier full slot");
    const Work work = slot.work[0];
    if (work.tile.first < 0) return;
    attend(work);
  }
}

// By a consumer warp, when all its lanes have read a buffer for the last time.
__device__ __forceinline__ void give_back(Mbarrier& empty) {
  sync_warp();
  if (lane_index() == 0) arrive_mbarrier(empty);
}

// ---- Launching.

// Of L2's 50 MB, what the operands that pass by may take, and how many of num_heads heads of
// `rows` rows of two operands fit, at least the `group` that belongs together and a multiple of it.
inline int heads_at_once(int64_t rows, int head_size, int num_heads, int group) {
  constexpr int64_t kBytes = 32 << 20;
  const int64_t fit = kBytes / std::max<int64_t>(1, rows * head_size * 2 * 2);
  return int(std::min<int64_t>(num_heads, std::max<int64_t>(1, fit) * group));
}

inline TensorMap make_map(const char* kernel, const AttentionRows& x, int64_t num_rows,
                          int num_heads, int head_size, int tile_rows) {
  return make_tensor_map(
      kernel, x.data, DType::bf16,
      {{head_size, 1, 64}, {num_heads, x.head_stride, 1}, {num_rows, x.row_stride, tile_rows}},
      TensorSwizzle::bytes128);
}

}  // namespace forja::kernels
