// SPDX-License-Identifier: Apache-2.0
// fp32 products with plain multiply-adds: no TF32, the result is fp32's.
//
// A block of 256 threads computes a 128 x 128 tile of c, a thread 8 x 8 of it: rows 4 i to 4 i + 3
// and 64 more, columns likewise, so that a warp reads its operands without bank conflicts. K is
// walked in steps of 8. In shared memory both tiles have rows along M or N; an operand whose rows
// run along K is transposed while it is stored. Two tiles of each: one is computed with while the
// next comes through registers. With swiglu a tile of b is 64 columns of gate and the same 64 of
// up, which puts a gate and its up into the same thread. Element (k, i) has column i ^ 16 (k / 4),
// which puts the transposing stores of a warp into different banks.
//
// The floor is the rate of multiply-adds: for 64 of them a thread reads 16 numbers from shared
// memory, 4 instructions.
#include "kernels/common/launch.h"
#include "kernels/matmul/store.cuh"
#include "kernels/matmul/tile_order.cuh"
#include "kernels/matmul/variants.h"

namespace forja::kernels {
namespace {

constexpr int kTile = 128;
constexpr int kTileK = 8;
constexpr int kThreads = 256;
constexpr int kTileElements = kTile * kTileK;
constexpr int kChunk = 4;  // elements of 16 bytes
static_assert(kTileElements == kChunk * kThreads);

struct Storage {
  alignas(16) SharedArray<float, 2 * kTileElements> a;
  alignas(16) SharedArray<float, 2 * kTileElements> b;
};

struct Operand {
  const float* data;
  int64_t stride;
  int size;       // of M or N
  bool by_chunk;  // chunks begin at 16 bytes and are whole
};

__device__ __forceinline__ int element_at(int outer, int k) {
  return k * kTile + (outer ^ (k / kChunk * 16));
}

// A thread's part in the copies of one operand's tiles: one chunk.
template <bool k_contiguous>
class TileCopy {
 public:
  // The tile begins at `first` of M or N; its second half `gap` further on than it would.
  __device__ __forceinline__ TileCopy(const Operand& x, int first, int size_k, int gap = 0)
      : x_(x) {
    const int thread = thread_index();
    outer_ = k_contiguous ? thread / 2 : thread % 32 * kChunk;
    k_ = k_contiguous ? thread % 2 * kChunk : thread / 32;
    const int64_t outer = first + outer_ + (outer_ < kTile / 2 ? 0 : gap);
    outer_left_ = int(x.size - outer);
    k_left_ = size_k - k_;
    from_ = x.data + (k_contiguous ? outer * x.stride + k_ : k_ * x.stride + outer);
  }

  // Into registers, the tile of K from k on.
  __device__ __forceinline__ void load(int k) {
    const float* from = from_ + (k_contiguous ? k : k * x_.stride);
    const int count =
        k_contiguous ? (outer_left_ > 0 ? k_left_ - k : 0) : (k_left_ > k ? outer_left_ : 0);
    if (x_.by_chunk && count > 0) return load_pack(from, values_);
#pragma unroll
    for (int j = 0; j < kChunk; ++j) values_[j] = j < count ? from[j] : 0.0f;
  }

  __device__ __forceinline__ void store(float* tile) const {
    if constexpr (k_contiguous) {
#pragma unroll
      for (int j = 0; j < kChunk; ++j) tile[element_at(outer_, k_ + j)] = values_[j];
    } else {
      store_pack(tile + element_at(outer_, k_), values_);
    }
  }

 private:
  const Operand& x_;
  const float* from_;
  int outer_, k_, outer_left_, k_left_;
  float values_[kChunk];
};

// acc += the products of one pair of tiles; the thread's rows begin at `row` and at row + 64.
__device__ __forceinline__ void multiply_tiles(float (&acc)[8][8], const float* a, const float* b,
                                               int row, int column) {
#pragma unroll
  for (int k = 0; k < kTileK; ++k) {
    float x[2][4], y[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      load_pack(a + element_at(row + 64 * half, k), x[half]);
      load_pack(b + element_at(column + 64 * half, k), y[half]);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) acc[i][j] += x[i / 4][i % 4] * y[j / 4][j % 4];
    }
  }
}

// Wherever it is: a gate, its up and what is made of them, for `column` of y.
__device__ __forceinline__ void store_gate_up(const MatmulStore<float>& out, int row, int column,
                                              float gate, float up) {
  if (row >= out.rows || column >= out.width) return;
  float* c = out.c + row * out.stride + column;
  c[0] = gate;
  c[out.width] = up;
  out.y[row * out.y_stride + column] = swiglu(gate, up);
}

// With swiglu: `column` is that of y, columns 0 to 3 of acc are of gate, the others of up. In
// pairs: groups of four need more registers than there are.
__device__ __forceinline__ void store_gate_up_tile(const MatmulStore<float>& out, int row,
                                                   int column, const float (&acc)[8][8]) {
  float bias[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) bias[j] = bias_at(out, column + j / 4 * out.width + j % 4);
  const bool inside = out.aligned && row + 68 <= out.rows && column + 4 <= out.width;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int r = row + i / 4 * 64 + i % 4;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float gate = acc[i][j] + bias[j], up = acc[i][j + 4] + bias[j + 4];
      if (!inside) {
        store_gate_up(out, r, column + j, gate, up);
      } else if (j % 2 == 0) {
        const float gate1 = acc[i][j + 1] + bias[j + 1], up1 = acc[i][j + 5] + bias[j + 5];
        float* c = out.c + r * out.stride + column + j;
        store_pair(c, false, gate, gate1);
        store_pair(c + out.width, false, up, up1);
        store_pair(out.y + r * out.y_stride + column + j, false, swiglu(gate, up),
                   swiglu(gate1, up1));
      }
    }
  }
}

template <MatmulEpilogue kEpilogue>
__device__ __forceinline__ void store_tile(const MatmulStore<float>& out, int row, int column,
                                           const float (&acc)[8][8]) {
  float bias[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) bias[j] = bias_at(out, column + j / 4 * 64 + j % 4);
  const bool inside = out.aligned && row + 68 <= out.rows && column + 68 <= out.columns;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int r = row + i / 4 * 64 + i % 4;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int at = column + j / 4 * 64 + j % 4;
      if (!inside) {
        store_one<kEpilogue>(out, r, at, acc[i][j] + bias[j]);
      } else if (j % 2 == 0) {
        const float x = acc[i][j] + bias[j], y = acc[i][j + 1] + bias[j + 1];
        store_pair(out.c + r * out.stride + at, out.accumulate, x, y);
        if constexpr (kEpilogue != MatmulEpilogue::none)
          store_pair(out.y + r * out.y_stride + at, false, activate<kEpilogue>(x),
                     activate<kEpilogue>(y));
      }
    }
  }
}

template <bool a_k_contiguous, bool b_k_contiguous, MatmulEpilogue kEpilogue>
__global__ void __launch_bounds__(kThreads, 2)
    fp32_kernel(const Operand a, const Operand b, int size_k, const TileGrid grid,
                const MatmulStore<float> out) {
  auto& shared = shared_storage<Storage>();
  const TilePlace place = place_of_tile(grid, int(blockIdx.x));
  TileCopy<a_k_contiguous> copy_a(a, place.row * kTile, size_k);
  constexpr int kColumns = kColumnsOf<kTile, kEpilogue>;
  TileCopy<b_k_contiguous> copy_b(b, place.column * kColumns, size_k,
                                  kColumns < kTile ? out.width - kColumns : 0);
  const auto load = [&](int step) {
    copy_a.load(step * kTileK);
    copy_b.load(step * kTileK);
  };
  const auto store = [&](int step) {
    const int buffer = step % 2 * kTileElements;
    copy_a.store(shared.a.at(buffer, kTileElements));
    copy_b.store(shared.b.at(buffer, kTileElements));
  };
  // A warp has 4 x 8 threads' worth of the tile's 16 x 16.
  const int row = (warp_index() / 2 * 4 + lane_index() / 8) * 4;
  const int column = (warp_index() % 2 * 8 + lane_index() % 8) * 4;
  float acc[8][8] = {};
  const int num_steps = ceil_div(size_k, kTileK);
  load(0);
  store(0);
  sync_block();
  for (int step = 0; step < num_steps; ++step) {
    const bool more = step + 1 < num_steps;
    if (more) load(step + 1);
    const int buffer = step % 2 * kTileElements;
    multiply_tiles(acc, shared.a.at(buffer, kTileElements), shared.b.at(buffer, kTileElements), row,
                   column);
    if (more) store(step + 1);
    sync_block();
  }
  const int first_row = place.row * kTile + row, first_column = place.column * kColumns + column;
  if constexpr (kEpilogue == MatmulEpilogue::swiglu)
    store_gate_up_tile(out, first_row, first_column, acc);
  else
    store_tile<kEpilogue>(out, first_row, first_column, acc);
}

Operand make_operand(const MatmulOperand& x, int64_t size, int64_t size_k) {
  const auto* data = static_cast<const float*>(x.data);
  const int64_t contiguous = x.k_contiguous ? size_k : size;
  return {data, x.stride, int(size),
          all_aligned16(data) && x.stride % kChunk == 0 && contiguous % kChunk == 0};
}

template <bool a_k_contiguous, bool b_k_contiguous, MatmulEpilogue kEpilogue>
void start(const MatmulProblem& p, KernelStream stream) {
  const TileGrid grid = {int(ceil_div<int64_t>(p.m, kTile)),
                         int(ceil_div<int64_t>(p.y_columns(), kColumnsOf<kTile, kEpilogue>))};
  launch({"matmul_fp32", unsigned(grid.num_tiles()), kThreads, sizeof(Storage)}, stream,
         fp32_kernel<a_k_contiguous, b_k_contiguous, kEpilogue>, make_operand(p.a, p.m, p.k),
         make_operand(p.b, p.n, p.k), int(p.k), grid, make_store<float>(p));
}

}  // namespace

void matmul_fp32(const MatmulProblem& p, KernelStream stream) {
  constexpr MatmulEpilogue none = MatmulEpilogue::none;
  if (p.a.k_contiguous && p.b.k_contiguous)
    dispatch_epilogue(p.epilogue,
                      [&]<MatmulEpilogue kEpilogue>() { start<true, true, kEpilogue>(p, stream); });
  else if (p.a.k_contiguous)
    start<true, false, none>(p, stream);
  else
    p.b.k_contiguous ? start<false, true, none>(p, stream) : start<false, false, none>(p, stream);
}

}  // namespace forja::kernels
