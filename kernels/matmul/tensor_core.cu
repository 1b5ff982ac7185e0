// SPDX-License-Identifier: Apache-2.0
// bf16 products with mma.sync, for every GPU from sm_80 on and every layout and alignment.
//
// A block of four warps computes a 128 x 128 tile of c, a warp 64 x 64 of it in registers. K is
// walked in steps of 32; the tiles of a and b of four steps lie in shared memory, three of them
// still on their way (cp.async). Operands stay as they lie in memory: a tile whose rows run along K
// is read with ldmatrix, one whose rows run along M or N with its transposing form, so forward,
// input gradient and weight gradient need no transposed copies.
//
// Shared memory is read and written in chunks of 16 bytes, eight at a time, which are to lie in
// different banks: rows along K are 64 bytes, and chunk i of row r lies at i ^ (r / 2) % 4; rows
// along M or N are 256 bytes, and chunk i of row k lies at i ^ k % 8.
//
// With swiglu the tile of b is four times 32 columns, of gate, of the same of up, of the next of
// gate and of up: the 64 that a warp multiplies with are then both halves of 32 columns of y.
//
// Operands that are no multiple of 16 bytes somewhere are gathered element by element into the same
// chunks: slow, but rare in training.
//
// The floor is the tensor cores' rate. A warp reads (64 + 64) x 16 elements from shared memory, 4
// KiB, for 65,536 multiply-adds: half of what the memory gives in that time on sm_80. A tile reads
// 512 bytes of L2 for each k, in the 16 cycles that its products take: about two thirds of what L2
// gives. Two blocks fit a multiprocessor, so that one computes while the other begins or ends.
#include "forja/base/dispatch.h"
#include "kernels/common/launch.h"
#include "kernels/common/mma.cuh"
#include "kernels/common/vector.cuh"
#include "kernels/matmul/store.cuh"
#include "kernels/matmul/tile_order.cuh"
#include "kernels/matmul/variants.h"

namespace forja::kernels {
namespace {

constexpr int kTile = 128;  // of M and of N
constexpr int kTileK = 32;
constexpr int kStages = 4;
constexpr int kThreads = 128;
constexpr int kTileElements = kTile * kTileK;
constexpr int kChunk = 8;                                     // elements of 16 bytes
constexpr int kCopies = kTileElements / (kChunk * kThreads);  // of a thread, for a tile
constexpr int kCopyElements = kTileElements / kCopies;        // between them in shared memory
constexpr int kWarpTile = 64;

struct Storage {
  alignas(1024) SharedArray<BFloat16, kStages * kTileElements> a;
  alignas(1024) SharedArray<BFloat16, kStages * kTileElements> b;
};

struct Operand {
  const BFloat16* data;
  int64_t stride;
  int size;       // of M or N
  bool by_chunk;  // chunks begin at 16 bytes and are whole
};

// Where in a tile the chunk begins that holds (outer, k), of M or N and of K.
template <bool k_contiguous>
__device__ __forceinline__ int chunk_at(int outer, int k) {
  if constexpr (k_contiguous) return outer * kTileK + ((k / kChunk) ^ (outer / 2 % 4)) * kChunk;
  return k * kTile + ((outer / kChunk) ^ (k % 8)) * kChunk;
}

// Of the 8 elements from `from` on, the first `count`; zeros for the rest.
__device__ __forceinline__ Bits16 gather_chunk(const BFloat16* from, int count) {
  Bits16 chunk;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = 2 * i < count ? from[2 * i].bits : 0;
    const uint32_t high = 2 * i + 1 < count ? from[2 * i + 1].bits : 0;
    chunk.word[i] = low | high << 16;
  }
  return chunk;
}

// A thread's part in the copies of one operand's tiles. With `halves` (k_contiguous), every other
// 32 of its rows are those of the second half of the operand that belong to the 32 before.
template <bool k_contiguous, bool halves = false>
class TileCopy {
 public:
  // The tile begins at `first` of M or N.
  __device__ __forceinline__ TileCopy(const Operand& x, int first, int size_k)
      : x_(x), size_k_(size_k) {
    const int thread = thread_index();
    const int outer = k_contiguous ? thread / 4 : thread % 16 * kChunk;
    k_ = k_contiguous ? thread % 4 * kChunk : thread / 16;
    shared_ = chunk_at<k_contiguous>(outer, k_);
    outer_ = first + outer;
    from_ = x.data + (k_contiguous ? outer_ * x.stride + k_ : k_ * x.stride + outer_);
  }

  // The tile of K from k on goes to `tile`, by cp.async or at once.
  __device__ __forceinline__ void copy(BFloat16* tile, int k) const {
    const BFloat16* from = from_ + (k_contiguous ? k : int64_t(k) * x_.stride);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int step = halves ? i / 2 * kStep + i % 2 * (x_.size / 2) : i * kStep;
      const int outer_left = int(x_.size - outer_) - (k_contiguous ? step : 0);
      const int k_left = size_k_ - k - k_ - (k_contiguous ? 0 : i * kStep);
      const int count =
          k_contiguous ? (outer_left > 0 ? k_left : 0) : (k_left > 0 ? outer_left : 0);
      const BFloat16* chunk = from + step * x_.stride;
      BFloat16* to = tile + shared_ + i * kCopyElements;
      if (x_.by_chunk) {
        copy_async16(to, chunk, count > 0);
      } else {
        store16(to, gather_chunk(chunk, count));
      }
    }
  }

 private:
  // Between the chunks of a thread; a multiple of 8, which keeps the swizzle.
  static constexpr int kStep = k_contiguous ? kTile / kCopies : kTileK / kCopies;
  static_assert(!halves || (k_contiguous && kStep == kWarpTile / 2));

  const Operand& x_;
  int size_k_;
  const BFloat16* from_;
  int64_t outer_;
  int k_, shared_;
};

// Fragments of 64 rows of a and of 64 columns of b, 16 of K.
struct Fragments {
  uint32_t a[4][4];
  uint32_t b[8][2];
};

template <bool a_k_contiguous, bool b_k_contiguous>
__device__ __forceinline__ void load_fragments(Fragments& f, const BFloat16* a, const BFloat16* b,
                                               int row, int column, int k) {
  const int lane = lane_index(), low = lane % 8, bit3 = lane / 8 % 2 * 8, bit4 = lane / 16 * 8;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Matrices in the order (row, k): (0, 0), (8, 0), (0, 8), (8, 8).
    const int at = row + 16 * i + low;
    if constexpr (a_k_contiguous)
      load_matrices(f.a[i], a + chunk_at<true>(at + bit3, k + bit4));
    else
      load_matrices_transposed(f.a[i], a + chunk_at<false>(row + 16 * i + bit3, k + low + bit4));
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // In the order (column, k): (0, 0), (0, 8), (8, 0), (8, 8).
    uint32_t d[4];
    const int at = column + 16 * i + low;
    if constexpr (b_k_contiguous)
      load_matrices(d, b + chunk_at<true>(at + bit4, k + bit3));
    else
      load_matrices_transposed(d, b + chunk_at<false>(column + 16 * i + bit4, k + low + bit3));
#pragma unroll
    for (int j = 0; j < 4; ++j) f.b[2 * i + j / 2][j % 2] = d[j];
  }
}

template <bool a_k_contiguous, bool b_k_contiguous, class T, MatmulEpilogue kEpilogue>
__global__ void __launch_bounds__(kThreads, 2)
    tensor_core_kernel(const Operand a, const Operand b, int size_k, const TileGrid grid,
                       const MatmulStore<T> out) {
  auto& shared = shared_storage<Storage>();
  const TilePlace place = place_of_tile(grid, int(blockIdx.x));
  const TileCopy<a_k_contiguous> copy_a(a, place.row * kTile, size_k);
  constexpr bool kHalves = kEpilogue == MatmulEpilogue::swiglu;
  const int first_column = place.column * kColumnsOf<kTile, kEpilogue>;
  const TileCopy<b_k_contiguous, kHalves> copy_b(b, first_column, size_k);
  const int num_steps = ceil_div(size_k, kTileK);
  const auto copy_step = [&](int step) {
    if (step < num_steps) {
      const int stage = step % kStages * kTileElements;
      copy_a.copy(shared.a.at(stage, kTileElements), step * kTileK);
      copy_b.copy(shared.b.at(stage, kTileElements), step * kTileK);
    }
    commit_copies();  // an empty group too, so that groups count steps
  };
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) copy_step(step);

  const int row = warp_index() / 2 * kWarpTile, column = warp_index() % 2 * kWarpTile;
  float acc[4][8][4] = {};
  for (int step = 0; step < num_steps; ++step) {
    wait_copies<kStages - 2>();
    sync_block();  // the step's tiles are there, and nobody reads those of the step before
    copy_step(step + kStages - 1);
    const int stage = step % kStages * kTileElements;
    const BFloat16* tile_a = shared.a.at(stage, kTileElements);
    const BFloat16* tile_b = shared.b.at(stage, kTileElements);
    Fragments f[2];
    load_fragments<a_k_contiguous, b_k_contiguous>(f[0], tile_a, tile_b, row, column, 0);
#pragma unroll
    for (int k = 0; k < kTileK / 16; ++k) {
      if ((k + 1) * 16 < kTileK)
        load_fragments<a_k_contiguous, b_k_contiguous>(f[(k + 1) % 2], tile_a, tile_b, row, column,
                                                       (k + 1) * 16);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) mma_m16n8k16(acc[i][j], f[k % 2].a[i], f[k % 2].b[j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    store_fragments<kEpilogue>(out, place.row * kTile + row + 16 * i,
                               first_column + (kHalves ? column / 2 : column), acc[i]);
}

Operand make_operand(const MatmulOperand& x, int64_t size, int64_t size_k) {
  const auto* data = static_cast<const BFloat16*>(x.data);
  const int64_t contiguous = x.k_contiguous ? size_k : size;
  return {data, x.stride, int(size),
          all_aligned16(data) && x.stride % kChunk == 0 && contiguous % kChunk == 0};
}

template <bool a_k_contiguous, bool b_k_contiguous, class T, MatmulEpilogue kEpilogue>
void start(const MatmulProblem& p, KernelStream stream) {
  const TileGrid grid = {int(ceil_div<int64_t>(p.m, kTile)),
                         int(ceil_div<int64_t>(p.y_columns(), kColumnsOf<kTile, kEpilogue>))};
  launch({"matmul_tensor_core", unsigned(grid.num_tiles()), kThreads, sizeof(Storage)}, stream,
         tensor_core_kernel<a_k_contiguous, b_k_contiguous, T, kEpilogue>,
         make_operand(p.a, p.m, p.k), make_operand(p.b, p.n, p.k), int(p.k), grid,
         make_store<T>(p));
}

}  // namespace

void matmul_tensor_core(const MatmulProblem& p, KernelStream stream) {
  constexpr MatmulEpilogue none = MatmulEpilogue::none;
  if (p.epilogue != none) {
    return dispatch_epilogue(p.epilogue, [&]<MatmulEpilogue kEpilogue>() {
      start<true, true, BFloat16, kEpilogue>(p, stream);
    });
  }
  dispatch_float(p.c_dtype, [&]<class T>() {
    if (p.a.k_contiguous)
      p.b.k_contiguous ? start<true, true, T, none>(p, stream)
                       : start<true, false, T, none>(p, stream);
    else
      p.b.k_contiguous ? start<false, true, T, none>(p, stream)
                       : start<false, false, T, none>(p, stream);
  });
}

}  // namespace forja::kernels
