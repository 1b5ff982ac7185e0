// SPDX-License-Identifier: Apache-2.0
// bf16 products of Hopper: the copy engine (TMA) fetches, wgmma multiplies straight from shared
// memory, and threads hardly do more than to say when.
//
// A block of three warpgroups computes a 128 x 256 tile of c (or 128 x 128), walking K in steps of
// 64. The first group is the producer: one of its threads fetches the tiles of a and b, as far
// ahead as there are stages. The others are consumers, with 64 rows of the tile each: they multiply
// whatever stage is full and give it back one step later, so that the next products are queued
// before the last are done. A stage has two mbarriers: `full` completes with the bytes of its
// copies, `empty` with an arrival of every consumer warp. The producer gives its registers to the
// consumers, which hold 128 sums a thread.
//
// Blocks stay: each takes every gridDim-th tile, and the producer fetches the first stages of the
// next tile while the consumers store this one. Stores go out from registers (store.cuh).
//
// An operand lies in shared memory as it does outside, in rows of 64 elements, 128 bytes: along K,
// or along M or N in blocks of 64. wgmma reads either (the transposing bits of the instruction), so
// one kernel serves forward, input gradient and weight gradient. Steps of 16 along K are 32 bytes
// in a row, or 16 rows. Elements outside of the operands are fetched as zeros.
//
// With swiglu a tile of b is two, half as wide: of gate, and the same of up.
//
// The floor is the tensor cores' rate: 1024 cycles for a step of a 128 x 256 tile. In that time it
// needs 48 KiB from L2, 48 bytes a cycle of a multiprocessor, and reads 2 x (64 + 256) x 128 bytes
// of shared memory, 80 a cycle of 128; tiles half as wide would need 64 and 128. They are used
// where the wide ones would leave multiprocessors idle at the end.
#include <algorithm>

#include "forja/base/dispatch.h"
#include "kernels/common/launch.h"
#include "kernels/common/wgmma.cuh"
#include "kernels/matmul/store.cuh"
#include "kernels/matmul/tile_order.cuh"
#include "kernels/matmul/variants.h"

namespace forja::kernels {
namespace {

constexpr int kTileM = 128, kTileK = 64;
constexpr int kConsumers = 2;  // warpgroups
constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
constexpr int kRowsOfConsumer = kTileM / kConsumers;
constexpr int kBlock = 64;                       // rows of shared memory, in elements
constexpr int kBlockElements = kBlock * kTileK;  // 64 of M or N, all of a step's K
constexpr int kBlockBytes = kBlockElements * 2;
constexpr int kAtomBytes = 1024;         // 8 rows
constexpr int kStagesBytes = 192 << 10;  // for all stages

static_assert(kRowsOfConsumer == 64);  // a wgmma has as many
static_assert(kBlockBytes % kAtomBytes == 0);

template <int kTileN>
struct Storage {
  static constexpr int kA = kTileM * kTileK, kB = kTileN * kTileK;  // elements of a stage
  static constexpr int kStages = kStagesBytes / (2 * (kA + kB));

  alignas(1024) SharedArray<BFloat16, kStages * kA> a;
  alignas(1024) SharedArray<BFloat16, kStages * kB> b;
  SharedArray<Mbarrier, kStages> full, empty;
};

// `size` (64, 128 or 256) of M or N from `outer` on, and a step of K from k on.
template <Rows rows, int size>
__device__ __forceinline__ void load_operand(BFloat16* tile, const TensorMap& map,
                                             Mbarrier& barrier, int outer, int k) {
  if constexpr (rows == Rows::k) {
    load_tile(tile, map, barrier, k, outer);
  } else {
#pragma unroll
    for (int i = 0; i < size; i += kBlock) load_tile(tile + i * kTileK, map, barrier, outer + i, k);
  }
}

// `width` of y: from a column of gate to its up.
template <Rows a_rows, Rows b_rows, MatmulEpilogue kEpilogue, int kTileN>
__device__ __forceinline__ void produce(Storage<kTileN>& shared, const TensorMap& a,
                                        const TensorMap& b, int num_steps, const TileGrid& grid,
                                        int width) {
  using S = Storage<kTileN>;
  constexpr int kColumns = kColumnsOf<kTileN, kEpilogue>;
  prefetch_tensor_map(a);
  prefetch_tensor_map(b);
  Ring<S::kStages> ring;
  for (int tile = int(blockIdx.x); tile < grid.num_tiles(); tile += int(gridDim.x)) {
    const TilePlace place = place_of_tile(grid, tile);
    for (int step = 0; step < num_steps; ++step) {
      Mbarrier& full = shared.full[ring.stage];
      // Of the phase before: the first time round, stages are empty.
      wait_mbarrier(shared.empty[ring.stage], ring.phase ^ 1, "mbarrier empty");
      arrive_mbarrier_expect(full, 2 * (S::kA + S::kB));
      load_operand<a_rows, kTileM>(shared.a.at(ring.stage * S::kA, S::kA), a, full,
                                   place.row * kTileM, step * kTileK);
      BFloat16* tile_b = shared.b.at(ring.stage * S::kB, S::kB);
#pragma unroll
      for (int part = 0; part < kTileN / kColumns; ++part)
        load_operand<b_rows, kColumns>(tile_b + part * kColumns * kTileK, b, full,
                                       place.column * kColumns + part * width, step * kTileK);
      ring.advance();
    }
  }
}

// The first 16 of K of an operand in stage 0.
template <Rows rows>
__device__ __forceinline__ MatrixDescriptor describe(const BFloat16* tile) {
  return make_descriptor(tile, rows == Rows::k ? 16 : kBlockBytes, kAtomBytes);
}
template <Rows rows>
constexpr int kBytesOf16 = rows == Rows::k ? 32 : 16 * 128;  // from one 16 of K to the next

template <Rows a_rows, Rows b_rows, MatmulEpilogue kEpilogue, int kTileN, class T>
__device__ __forceinline__ void consume(Storage<kTileN>& shared, int consumer, int num_steps,
                                        const TileGrid& grid, const MatmulStore<T>& out) {
  using S = Storage<kTileN>;
  const MatrixDescriptor first_a =
      describe<a_rows>(shared.a.at(consumer * kRowsOfConsumer * kTileK));
  const MatrixDescriptor first_b = describe<b_rows>(shared.b.at(0));
  const int first_row = consumer * kRowsOfConsumer + warp_index() % 4 * 16;
  const auto give_back = [&](int stage) {
    if (lane_index() == 0) arrive_mbarrier(shared.empty[stage]);
  };
  Ring<S::kStages> ring;
  for (int tile = int(blockIdx.x); tile < grid.num_tiles(); tile += int(gridDim.x)) {
    float c[kTileN / 8][4];
    int previous = 0;
    for (int step = 0; step < num_steps; ++step) {
      wait_mbarrier(shared.full[ring.stage], ring.phase, "mbarrier full");
      const MatrixDescriptor a = advance(first_a, ring.stage * S::kA * 2);
      const MatrixDescriptor b = advance(first_b, ring.stage * S::kB * 2);
      fence_products();
#pragma unroll
      for (int i = 0; i < kTileK / 16; ++i)
        multiply<a_rows, b_rows>(c, advance(a, i * kBytesOf16<a_rows>),
                                 advance(b, i * kBytesOf16<b_rows>), step > 0 || i > 0);
      commit_products();
      wait_products<1>();
      if (step > 0) give_back(previous);
      previous = ring.stage;
      ring.advance();
    }
    wait_products<0>();
    take_products(c);
    give_back(previous);
    const TilePlace place = place_of_tile(grid, tile);
    store_fragments<kEpilogue>(out, place.row * kTileM + first_row,
                               place.column * kColumnsOf<kTileN, kEpilogue>, c);
  }
}

template <Rows a_rows, Rows b_rows, int kTileN, class T, MatmulEpilogue kEpilogue>
__global__ void __launch_bounds__(kThreads, 1)
    hopper_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                  int num_steps, const TileGrid grid, const MatmulStore<T> out) {
#ifdef FORJA_HOPPER_CODE
  auto& shared = shared_storage<Storage<kTileN>>();
  if (thread_index() == 0) {
    for (int i = 0; i < Storage<kTileN>::kStages; ++i) {
      init_mbarrier(shared.full[i], 1);
      init_mbarrier(shared.empty[i], kConsumers * kWarpgroup / kWarp);
    }
    publish_mbarriers();
  }
  sync_block();
  const int group = thread_index() / kWarpgroup;
  if (group == 0) {
    lower_registers<40>();
    if (thread_index() == 0)
      produce<a_rows, b_rows, kEpilogue>(shared, a, b, num_steps, grid, out.width);
  } else {
    raise_registers<232>();
    consume<a_rows, b_rows, kEpilogue>(shared, group - 1, num_steps, grid, out);
  }
#endif
}

bool can_read(const MatmulOperand& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.stride > 0 && x.stride % 8 == 0;
}

TensorMap make_map(const MatmulOperand& x, int64_t size, int64_t size_k, int tile) {
  const TensorMapDim k = {size_k, x.k_contiguous ? 1 : x.stride, kTileK};
  const TensorMapDim outer = {size, x.k_contiguous ? x.stride : 1, x.k_contiguous ? tile : kBlock};
  return x.k_contiguous ? make_tensor_map("matmul_hopper", x.data, DType::bf16, {k, outer},
                                          TensorSwizzle::bytes128)
                        : make_tensor_map("matmul_hopper", x.data, DType::bf16, {outer, k},
                                          TensorSwizzle::bytes128);
}

template <Rows a_rows, Rows b_rows, int kTileN, class T, MatmulEpilogue kEpilogue>
void start(const MatmulProblem& p, KernelStream stream) {
  constexpr int kColumns = kColumnsOf<kTileN, kEpilogue>;
  const TileGrid grid = {int(ceil_div<int64_t>(p.m, kTileM)),
                         int(ceil_div<int64_t>(p.y_columns(), kColumns))};
  const int blocks = std::min(grid.num_tiles(), num_multiprocessors());
  launch({"matmul_hopper", unsigned(blocks), kThreads, sizeof(Storage<kTileN>)}, stream,
         hopper_kernel<a_rows, b_rows, kTileN, T, kEpilogue>, make_map(p.a, p.m, p.k, kTileM),
         make_map(p.b, p.n, p.k, kColumns), int(ceil_div<int64_t>(p.k, kTileK)), grid,
         make_store<T>(p));
}

template <int kTileN>
void start(const MatmulProblem& p, KernelStream stream) {
  constexpr Rows k = Rows::k, outer = Rows::outer;
  constexpr MatmulEpilogue none = MatmulEpilogue::none;
  if (p.epilogue != none) {
    return dispatch_epilogue(p.epilogue, [&]<MatmulEpilogue kEpilogue>() {
      start<k, k, kTileN, BFloat16, kEpilogue>(p, stream);
    });
  }
  dispatch_float(p.c_dtype, [&]<class T>() {
    if (p.a.k_contiguous)
      p.b.k_contiguous ? start<k, k, kTileN, T, none>(p, stream)
                       : start<k, outer, kTileN, T, none>(p, stream);
    else
      p.b.k_contiguous ? start<outer, k, kTileN, T, none>(p, stream)
                       : start<outer, outer, kTileN, T, none>(p, stream);
  });
}

// Time of the last multiprocessor to finish, in units of one column of a tile's products; those of
// narrow tiles are slower by what they read more.
int64_t time_with(const MatmulProblem& p, int tile_n) {
  const int64_t tiles = ceil_div<int64_t>(p.m, kTileM) * ceil_div<int64_t>(p.n, tile_n);
  const int64_t rounds = ceil_div<int64_t>(tiles, num_multiprocessors());
  return rounds * tile_n * (tile_n == 128 ? 115 : 100);
}

}  // namespace

bool hopper_can_read(const MatmulProblem& p) { return p.k > 0 && can_read(p.a) && can_read(p.b); }

void matmul_hopper(const MatmulProblem& p, KernelStream stream) {
  const bool wide = time_with(p, 256) <= time_with(p, 128);
  wide ? start<256>(p, stream) : start<128>(p, stream);
}

}  // namespace forja::kernels
