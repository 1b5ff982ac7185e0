// SPDX-License-Identifier: Apache-2.0
// Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008. Both operands are packed into
// panels of fp32 (bf16 is widened on the way: the arithmetic is fp32 in any case). The register tile is multiplied as
// an outer product: for each k a vector row of b and the elements of a column of a, broadcast.
//
// A panel of b holds `columns` of the tile for kGemmDepth values of k, [k][column]. A panel of a holds `rows` of the
// tile: [row][k] with a fixed stride where a is row-major, [k][row] where it is column-major, so that packing a is
// always a plain copy. Only packing a transposed b must transpose.
#include "csrc/ops/cpu/gemm.h"

#include <cstring>

#include "csrc/ops/cpu/gemm_plan.h"
#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/dispatch.h"

#include <hwy/cache_control.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/gemm.cc"
#include "csrc/ops/cpu/highway.h"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

// As many accumulators as the registers hold beside two vectors of b and one broadcast element.
#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kTileRows = 14;
#else
constexpr int kTileRows = 6;
#endif
constexpr int kTileVectors = 2;
HWY_INLINE int64_t tile_columns() { return kTileVectors * lanes(); }

GemmTile gemm_tile() { return {kTileRows, tile_columns()}; }

// ---- Packing

// rows x depth of row-major a into [row][k].
template <class T>
void pack_a_rows(const T* a, int64_t stride, int64_t rows, int64_t depth, float* out) {
  for (int64_t i = 0; i < kTileRows; ++i) {
    float* to = out + i * kGemmRowStride;
    if (i >= rows) {
      memset(to, 0, size_t(depth) * sizeof(float));
      continue;
    }
    const T* from = a + i * stride;
    int64_t k = 0;
    for (; k + lanes() <= depth; k += lanes()) store(load(from + k), to + k);
    for (; k < depth; ++k) to[k] = float(from[k]);
  }
}

// rows x depth of column-major a into [k][row].
template <class T>
void pack_a_columns(const T* a, int64_t stride, int64_t rows, int64_t depth, float* out) {
  for (int64_t k = 0; k < depth; ++k) {
    const T* from = a + k * stride;
    float* to = out + k * kTileRows;
    int64_t i = 0;
    for (; i < rows; ++i) to[i] = float(from[i]);
    for (; i < kTileRows; ++i) to[i] = 0;
  }
}

// depth x columns of row-major b into [k][column].
template <class T>
void pack_b_rows(const T* b, int64_t stride, int64_t columns, int64_t depth, float* out) {
  const int64_t width = tile_columns();
  for (int64_t k = 0; k < depth; ++k) {
    const T* from = b + k * stride;
    float* to = out + k * width;
    if (columns == width) {
      for (int v = 0; v < kTileVectors; ++v) store(load(from + v * lanes()), to + v * lanes());
    } else {
      int64_t j = 0;
      for (; j < columns; ++j) to[j] = float(from[j]);
      for (; j < width; ++j) to[j] = 0;
    }
  }
}

// depth x columns of column-major b into [k][column]: four columns at a time are interleaved to [k][4], which then move
// to their place as 128-bit pieces.
template <class T>
void pack_b_columns(const T* b, int64_t stride, int64_t columns, int64_t depth, float* out) {
  const DF df;
  const int64_t width = tile_columns(), step = lanes();
  HWY_ALIGN float quads[4 * hn::MaxLanes(DF())];
  int64_t j = 0;
  for (; step >= 4 && j + 4 <= columns; j += 4) {
    const T* from = b + j * stride;
    float* to = out + j;
    int64_t k = 0;
    for (; k + step <= depth; k += step) {
      hn::StoreInterleaved4(load(from + k), load(from + stride + k), load(from + 2 * stride + k),
                            load(from + 3 * stride + k), df, quads);
      for (int64_t i = 0; i < step; ++i) memcpy(to + (k + i) * width, quads + 4 * i, 4 * sizeof(float));
    }
    for (; k < depth; ++k) {
      for (int64_t i = 0; i < 4; ++i) to[k * width + i] = float(from[i * stride + k]);
    }
  }
  for (; j < width; ++j) {
    for (int64_t k = 0; k < depth; ++k) out[k * width + j] = j < columns ? float(b[j * stride + k]) : 0.0f;
  }
}

void pack_a_panel(const GemmStrip& s, int64_t panel, int64_t k_block) {
  const GemmPlan& plan = *s.plan;
  const int64_t row = panel * kTileRows, k = k_block * kGemmDepth;
  const int64_t rows = std::min<int64_t>(kTileRows, s.rows - row), depth = std::min(kGemmDepth, s.depth - k);
  float* out = s.packed_a + (k_block * divide_up(s.rows, kTileRows) + panel) * plan.packed_a_panel();
  dispatch_float(s.a.dtype, [&]<class T>() {
    const T* from = s.a.ptr<T>() + row * s.a.stride(0) + k * s.a.stride(1);
    if (s.a.stride(1) == 1) {
      pack_a_rows(from, s.a.stride(0), rows, depth, out);
    } else {
      pack_a_columns(from, s.a.stride(1), rows, depth, out);
    }
  });
}

void pack_b_panel(const GemmStrip& s, int64_t panel, int64_t k_block) {
  const GemmPlan& plan = *s.plan;
  const int64_t width = tile_columns(), column = panel * width, k = k_block * kGemmDepth;
  const int64_t columns = std::min(width, s.columns - column), depth = std::min(kGemmDepth, s.depth - k);
  float* out = s.packed_b + (k_block * divide_up(s.columns, width) + panel) * plan.packed_b_panel();
  dispatch_float(s.b.dtype, [&]<class T>() {
    const T* from = s.b.ptr<T>() + k * s.b.stride(0) + column * s.b.stride(1);
    if (s.b.stride(1) == 1) {
      pack_b_rows(from, s.b.stride(0), columns, depth, out);
    } else {
      pack_b_columns(from, s.b.stride(1), columns, depth, out);
    }
  });
}

// ---- The register tile

// out = start + product. start: the sums so far, or the bias of the columns (stride 0), or nullptr for zeros.
template <class TS, class TO>
struct TileOutput {
  const TS* start;
  int64_t start_stride;
  TO* out;
  int64_t out_stride;
};

template <bool kARows>
HWY_INLINE const float* a_element(const float* a, int64_t i) {
  return kARows ? a + i * kGemmRowStride : a + i;
}

// Adds the product of two panels, `depth` deep, to sum [rows of the tile][columns of the tile].
template <bool kARows>
HWY_INLINE void multiply_panels(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t depth,
                                VF (&sum)[kTileRows][kTileVectors]) {
  const int64_t step = lanes();
  for (int64_t k = 0; k < depth; ++k) {
    VF row[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) row[v] = hn::Load(DF(), b + v * step);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      const auto x = set(*a_element<kARows>(a, i));
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) sum[i][v] = hn::MulAdd(x, row[v], sum[i][v]);
    }
    a += kARows ? 1 : kTileRows;
    b += kTileVectors * step;
  }
}

template <bool kARows, class TS, class TO>
HWY_NOINLINE void whole_tile(const float* a, const float* b, int64_t depth, const TileOutput<TS, TO>& to) {
  const int64_t step = lanes();
  // Needed at the end: fetched meanwhile.
  if (to.start && to.start_stride) {
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) hwy::Prefetch(to.start + i * to.start_stride + v * step);
    }
  }
  VF sum[kTileRows][kTileVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) sum[i][v] = zero();
  }
  multiply_panels<kARows>(a, b, depth, sum);
  if (to.start) {
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) {
        store(hn::Add(sum[i][v], load(to.start + i * to.start_stride + v * step)), to.out + i * to.out_stride + v * step);
      }
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) store(sum[i][v], to.out + i * to.out_stride + v * step);
    }
  }
}

// The tile at the right or lower edge, of which only rows x columns exist.
template <bool kARows, class TS, class TO>
HWY_NOINLINE void part_tile(const float* a, const float* b, int64_t depth, int64_t rows, int64_t columns,
                            const TileOutput<TS, TO>& to) {
  constexpr int64_t kWidth = kTileVectors * int64_t(hn::MaxLanes(DF()));
  HWY_ALIGN float tile[kTileRows * kWidth] = {};
  for (int64_t i = 0; to.start && i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) tile[i * kWidth + j] = float(to.start[i * to.start_stride + j]);
  }
  whole_tile<kARows>(a, b, depth, TileOutput<float, float>{tile, kWidth, tile, kWidth});
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to.out[i * to.out_stride + j] = TO(tile[i * kWidth + j]);
  }
}

// Calls f(start, stride) with what a tile at (row, column) starts from: a typed pointer and the stride of its rows.
template <class F>
HWY_INLINE void with_start(const GemmStrip& s, bool first, int64_t row, int64_t column, const F& f) {
  if (!first) return f(static_cast<const float*>(s.sums + row * s.sums_stride + column), s.sums_stride);
  if (s.add_c) {
    return dispatch_float(s.c.dtype, [&]<class T>() {
      f(static_cast<const T*>(s.c.ptr<T>() + row * s.c.stride(0) + column), s.c.stride(0));
    });
  }
  if (!s.bias.defined()) return f(static_cast<const float*>(nullptr), int64_t(0));
  dispatch_float(s.bias.dtype, [&]<class T>() { f(static_cast<const T*>(s.bias.ptr<T>() + column), int64_t(0)); });
}

// The tiles of one panel of b: down the rows of the task.
template <bool kARows, class TO>
void tile_column(const GemmStrip& s, int64_t k_block, int64_t row_begin, int64_t row_end, int64_t column_panel,
                 TO* out, int64_t out_stride) {
  const int64_t width = tile_columns(), column = column_panel * width;
  const int64_t columns = std::min(width, s.columns - column);
  const int64_t depth = std::min(kGemmDepth, s.depth - k_block * kGemmDepth);
  const float* b = s.packed_b + (k_block * divide_up(s.columns, width) + column_panel) * s.plan->packed_b_panel();
  const float* a = s.packed_a + k_block * divide_up(s.rows, kTileRows) * s.plan->packed_a_panel();
  with_start(s, s.first && k_block == 0, 0, column, [&]<class TS>(const TS* start, int64_t stride) {
    for (int64_t i = row_begin; i < row_end; ++i) {
      const int64_t row = i * kTileRows, rows = std::min<int64_t>(kTileRows, s.rows - row);
      const float* a_panel = a + i * s.plan->packed_a_panel();
      const TS* from = start ? start + row * stride : start;
      const TileOutput<TS, TO> to{from, stride, out + row * out_stride + column, out_stride};
      if (rows < kTileRows || columns < width) {
        part_tile<kARows>(a_panel, b, depth, rows, columns, to);
        continue;
      }
      whole_tile<kARows>(a_panel, b, depth, to);
    }
  });
}

// One task: [task_rows, task_columns] of the block, all of the strip's depth.
void gemm_task(const GemmStrip& s, int64_t task_row, int64_t task_column) {
  const GemmPlan& plan = *s.plan;
  const int64_t width = tile_columns();
  const int64_t row_begin = task_row * plan.task_rows / kTileRows;
  const int64_t row_end = std::min(row_begin + plan.task_rows / kTileRows, divide_up(s.rows, kTileRows));
  const int64_t column_begin = task_column * plan.task_columns / width;
  const int64_t column_end = std::min(column_begin + plan.task_columns / width, divide_up(s.columns, width));
  const int64_t k_blocks = divide_up(s.depth, kGemmDepth);
  for (int64_t k = 0; k < k_blocks; ++k) {
    const bool to_c = s.last && k == k_blocks - 1;
    for (int64_t j = column_begin; j < column_end; ++j) {
      const auto tiles = [&](auto* out, int64_t stride) {
        if (s.a.stride(1) == 1) {
          tile_column<true>(s, k, row_begin, row_end, j, out, stride);
        } else {
          tile_column<false>(s, k, row_begin, row_end, j, out, stride);
        }
      };
      if (to_c && s.c.dtype == DType::bf16) {
        tiles(s.c.ptr<BFloat16>(), s.c.stride(0));
      } else {
        tiles(s.sums, s.sums_stride);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(gemm_tile);
HWY_EXPORT(pack_a_panel);
HWY_EXPORT(pack_b_panel);
HWY_EXPORT(gemm_task);

namespace {

void run_strip(const GemmStrip& s) {
  const GemmPlan& plan = *s.plan;
  const int64_t k_blocks = divide_up(s.depth, kGemmDepth);
  const int64_t a_panels = divide_up(s.rows, plan.tile.rows), b_panels = divide_up(s.columns, plan.tile.columns);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < (a_panels + b_panels) * k_blocks; ++i) {
      const int64_t panel = i / k_blocks;
      if (panel < a_panels) {
        HWY_DYNAMIC_DISPATCH(pack_a_panel)(s, panel, i % k_blocks);
      } else {
        HWY_DYNAMIC_DISPATCH(pack_b_panel)(s, panel - a_panels, i % k_blocks);
      }
    }
    const int64_t task_rows = divide_up(s.rows, plan.task_rows), task_columns = divide_up(s.columns, plan.task_columns);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < task_rows * task_columns; ++i) {
      HWY_DYNAMIC_DISPATCH(gemm_task)(s, i / task_columns, i % task_columns);
    }
  }
}

}  // namespace

void gemm(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c, MatmulOutput output,
          const Tensor& bias) {
  const int64_t m = a.size(0), n = b.size(1), k = a.size(1);
  const GemmPlan plan(HWY_DYNAMIC_DISPATCH(gemm_tile)(), m, n, k);
  ArenaScope scope(*ctx.workspace);
  GemmStrip s{};
  s.plan = &plan;
  s.packed_a = static_cast<float*>(ctx.workspace->allocate(plan.packed_a_floats() * 4));
  s.packed_b = static_cast<float*>(ctx.workspace->allocate(plan.packed_b_floats() * 4));
  const bool own_sums = c.dtype != DType::f32;
  if (own_sums) s.sums = static_cast<float*>(ctx.workspace->allocate(plan.block_rows * plan.block_columns * 4));
  if (ctx.planning()) return;
  s.add_c = output == MatmulOutput::accumulate;
  for (int64_t j = 0; j < n; j += plan.block_columns) {
    s.columns = std::min(plan.block_columns, n - j);
    s.bias = bias.defined() ? bias.slice(0, j, j + s.columns) : bias;
    for (int64_t i = 0; i < m; i += plan.block_rows) {
      s.rows = std::min(plan.block_rows, m - i);
      s.c = c.slice(0, i, i + s.rows).slice(1, j, j + s.columns);
      if (!own_sums) s.sums = s.c.ptr<float>();
      s.sums_stride = own_sums ? plan.block_columns : c.stride(0);
      for (int64_t p = 0; p < k; p += plan.strip) {
        s.depth = std::min(plan.strip, k - p);
        s.a = a.slice(0, i, i + s.rows).slice(1, p, p + s.depth);
        s.b = b.slice(0, p, p + s.depth).slice(1, j, j + s.columns);
        s.first = p == 0;
        s.last = p + s.depth == k;
        run_strip(s);
      }
    }
  }
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
