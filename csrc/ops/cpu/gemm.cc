// SPDX-License-Identifier: Apache-2.0
// Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008. Both operands
// are packed into panels of fp32 (bf16 is widened on the way: the arithmetic is fp32 in any case)
// for the register tile of tile-inl.h.
//
// A panel of b holds `columns` of the tile for kGemmDepth values of k, [k][column]. A panel of a
// holds `rows` of the tile: [row][k] with a fixed stride where a is row-major, [k][row] where it is
// column-major, so that packing a is always a plain copy. Only packing a transposed b must
// transpose.
#include "csrc/ops/cpu/gemm.h"

#include <cstring>

#include "csrc/ops/cpu/gemm_plan.h"
#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/gemm.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

#include "csrc/ops/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

static_assert(kGemmRowStride == kRowStride);

GemmTile gemm_tile() { return {kTileRows, tile_columns()}; }

// ---- Packing

// rows x depth of row-major a into [row][k].
template <class T>
void pack_a_rows(const T* a, int64_t stride, int64_t rows, int64_t depth, float* out) {
  for (int64_t i = 0; i < rows; ++i) copy_row(a + i * stride, depth, depth, out + i * kRowStride);
  for (int64_t i = rows; i < kTileRows; ++i)
    memset(out + i * kRowStride, 0, size_t(depth) * sizeof(float));
}

// rows x depth of column-major a into panels [k][row], one after the other: k by k, so that memory
// is read in order.
template <class T>
void pack_a_columns(const T* a, int64_t stride, int64_t rows, int64_t depth, int64_t panel_floats,
                    float* out) {
  for (int64_t k = 0; k < depth; ++k, a += stride) {
    float* to = out + k * kTileRows;
    int64_t row = 0;
    for (; row + kTileRows <= rows; row += kTileRows, to += panel_floats) {
#pragma GCC unroll 16
      for (int i = 0; i < kTileRows; ++i) to[i] = float(a[row + i]);
    }
    for (int64_t i = 0; row < rows && i < kTileRows; ++i)
      to[i] = row + i < rows ? float(a[row + i]) : 0.0f;
  }
}

// depth x columns of row-major b into panels [k][column], one after the other: k by k, as for a.
template <class T>
void pack_b_rows(const T* b, int64_t stride, int64_t columns, int64_t depth, int64_t panel_floats,
                 float* out) {
  const int64_t width = tile_columns();
  for (int64_t k = 0; k < depth; ++k, b += stride) {
    float* to = out + k * width;
    for (int64_t j = 0; j < columns; j += width, to += panel_floats) {
      copy_row(b + j, std::min(width, columns - j), width, to);
    }
  }
}

// Panels of a for the strip's whole depth: [k block][panel].
void pack_a_task(const GemmStrip& s, int64_t tile_begin, int64_t tile_end, float* out) {
  const int64_t panel_floats = s.plan->packed_a_panel(), row = tile_begin * kTileRows;
  const int64_t rows = std::min(tile_end * kTileRows, s.rows) - row;
  dispatch_float(s.a.dtype, [&]<class T>() {
    for (int64_t k = 0; k < s.depth; k += kGemmDepth) {
      const int64_t depth = std::min(kGemmDepth, s.depth - k);
      const T* from = s.a.ptr<T>() + row * s.a.stride(0) + k * s.a.stride(1);
      if (s.a.stride(1) != 1) {
        pack_a_columns(from, s.a.stride(1), rows, depth, panel_floats, out);
        out += (tile_end - tile_begin) * panel_floats;
        continue;
      }
      for (int64_t i = 0; i < rows; i += kTileRows, out += panel_floats) {
        pack_a_rows(from + i * s.a.stride(0), s.a.stride(0), std::min<int64_t>(kTileRows, rows - i),
                    depth, out);
      }
    }
  });
}

// Panels [begin, end) of b for one block of k.
void pack_b_panels(const GemmStrip& s, int64_t begin, int64_t end, int64_t k_block) {
  const int64_t width = tile_columns(), panel_floats = s.plan->packed_b_panel(),
                k = k_block * kGemmDepth;
  const int64_t columns = std::min(end * width, s.columns) - begin * width,
                depth = std::min(kGemmDepth, s.depth - k);
  float* out = s.packed_b + (k_block * divide_up(s.columns, width) + begin) * panel_floats;
  dispatch_float(s.b.dtype, [&]<class T>() {
    const T* from = s.b.ptr<T>() + k * s.b.stride(0) + begin * width * s.b.stride(1);
    if (s.b.stride(1) == 1)
      return pack_b_rows(from, s.b.stride(0), columns, depth, panel_floats, out);
    for (int64_t j = 0; j < columns; j += width, out += panel_floats) {
      pack_transposed(from + j * s.b.stride(1), s.b.stride(1), std::min(width, columns - j), depth,
                      width, out);
    }
  });
}

// ---- Tiles

// out = start + product. start: the sums so far, or the bias of the columns (stride 0), or nullptr
// for zeros.
template <class TS, class TO>
struct TileOutput {
  const TS* start;
  int64_t start_stride;
  TO* out;
  int64_t out_stride;
};

template <class A, class TS, class TO>
HWY_NOINLINE void whole_tile(const float* a, const float* b, int64_t depth,
                             const TileOutput<TS, TO>& to) {
  const int64_t step = lanes(), width = tile_columns();
  TileSum sum;
  // Where the result goes is needed at the end: fetched meanwhile, to be written.
  for (int64_t i = 0; i < kTileRows; ++i) {
    for (int v = 0; v < kTileVectors; ++v)
      __builtin_prefetch(to.out + i * to.out_stride + v * step, 1);
  }
  multiply_tile(A{a}, b, width, depth, sum);
  if (to.start) {
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) {
        const auto before = load(to.start + i * to.start_stride + v * step);
        store(hn::Add(sum[i][v], before), to.out + i * to.out_stride + v * step);
      }
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v)
        store(sum[i][v], to.out + i * to.out_stride + v * step);
    }
  }
}

// The tile at the right or lower edge, of which only rows x columns exist.
template <class A, class TS, class TO>
HWY_NOINLINE void part_tile(const float* a, const float* b, int64_t depth, int64_t rows,
                            int64_t columns, const TileOutput<TS, TO>& to) {
  constexpr int64_t kWidth = kTileVectors * int64_t(hn::MaxLanes(DF()));
  HWY_ALIGN float tile[kTileRows * kWidth] = {};
  for (int64_t i = 0; to.start && i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j)
      tile[i * kWidth + j] = float(to.start[i * to.start_stride + j]);
  }
  whole_tile<A>(a, b, depth, TileOutput<float, float>{tile, kWidth, tile, kWidth});
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to.out[i * to.out_stride + j] = TO(tile[i * kWidth + j]);
  }
}

// ---- Tasks

// A task: tiles [tile_begin, tile_end) of rows; of the columns those from `column` on that one call
// computes.
struct Task {
  int64_t tile_begin, tile_end;
  const float* packed_a;
  float* sums;  // fp32 sums so far of the first row, column 0 of the block
  int64_t sums_stride;
};

// Calls f(start, stride) with what the block's row 0 at this column starts from, typed; the stride
// is that of its rows.
template <class F>
HWY_INLINE void with_start(const GemmStrip& s, const Task& task, bool first, int64_t column,
                           const F& f) {
  const int64_t row = task.tile_begin * kTileRows;
  if (!first) return f(static_cast<const float*>(task.sums + column), task.sums_stride);
  if (s.add_c) {
    return dispatch_float(s.c.dtype, [&]<class T>() {
      f(static_cast<const T*>(s.c.ptr<T>() + row * s.c.stride(0) + column), s.c.stride(0));
    });
  }
  if (!s.bias.defined()) return f(static_cast<const float*>(nullptr), int64_t(0));
  dispatch_float(s.bias.dtype, [&]<class T>() {
    f(static_cast<const T*>(s.bias.ptr<T>() + column), int64_t(0));
  });
}

// The tiles of one panel of b, down the rows of the task. out: of the task's first row, column 0.
template <class A, class TO>
void tile_column(const GemmStrip& s, const Task& task, int64_t k_block, int64_t panel, TO* out,
                 int64_t out_stride) {
  const int64_t width = tile_columns(), column = panel * width,
                columns = std::min(width, s.columns - column);
  const int64_t depth = std::min(kGemmDepth, s.depth - k_block * kGemmDepth),
                tiles = task.tile_end - task.tile_begin;
  const float* b =
      s.packed_b + (k_block * divide_up(s.columns, width) + panel) * s.plan->packed_b_panel();
  const float* a = task.packed_a + k_block * tiles * s.plan->packed_a_panel();
  // The next panel of b comes into the second-level cache meanwhile, a part during each tile.
  const int64_t ahead = divide_up(s.plan->packed_b_panel(), tiles);
  with_start(s, task, s.first && k_block == 0, column,
             [&]<class TS>(const TS* start, int64_t stride) {
               for (int64_t i = 0; i < tiles; ++i, a += s.plan->packed_a_panel()) {
                 const int64_t row = i * kTileRows;
                 const int64_t rows =
                     std::min<int64_t>(kTileRows, s.rows - task.tile_begin * kTileRows - row);
                 const float* next = b + s.plan->packed_b_panel() + i * ahead;
                 for (int64_t j = 0; j < ahead; j += 16) __builtin_prefetch(next + j, 0, 2);
                 const TileOutput<TS, TO> to{start ? start + row * stride : start, stride,
                                             out + row * out_stride + column, out_stride};
                 if (rows == kTileRows && columns == width) {
                   whole_tile<A>(a, b, depth, to);
                 } else {
                   part_tile<A>(a, b, depth, rows, columns, to);
                 }
               }
             });
}

// Panels [begin, end) of b, all of the strip's depth.
template <class A>
void tile_group(const GemmStrip& s, const Task& task, int64_t begin, int64_t end) {
  const int64_t k_blocks = divide_up(s.depth, kGemmDepth), row = task.tile_begin * kTileRows;
  for (int64_t k = 0; k < k_blocks; ++k) {
    const bool to_c = s.last && k == k_blocks - 1;
    for (int64_t j = begin; j < end; ++j) {
      if (to_c && s.c.dtype == DType::bf16) {
        tile_column<A>(s, task, k, j, s.c.ptr<BFloat16>() + row * s.c.stride(0), s.c.stride(0));
      } else {
        tile_column<A>(s, task, k, j, task.sums, task.sums_stride);
      }
    }
  }
}

// Task (row_task, column_task) of the plan; scratch of this thread.
void gemm_task(const GemmStrip& s, int64_t row_task, int64_t column_task, float* packed_a,
               float* group_sums) {
  const GemmPlan& plan = *s.plan;
  const int64_t tiles = divide_up(s.rows, kTileRows), panels = divide_up(s.columns, tile_columns());
  Task task{row_task * tiles / plan.row_tasks, (row_task + 1) * tiles / plan.row_tasks, packed_a,
            nullptr, 0};
  const int64_t begin = column_task * panels / plan.column_tasks,
                end = (column_task + 1) * panels / plan.column_tasks;
  if (task.tile_begin == task.tile_end || begin == end) return;
  pack_a_task(s, task.tile_begin, task.tile_end, packed_a);
  const int64_t group = round_up(GemmPlan::kGroupColumns, tile_columns()) / tile_columns();
  for (int64_t j = begin; j < end; j += group) {
    const int64_t row = task.tile_begin * kTileRows;
    if (s.sums) {
      task.sums_stride = plan.block_columns;
      task.sums = s.sums + row * task.sums_stride;
    } else if (s.c.dtype == DType::f32) {
      task.sums_stride = s.c.stride(0);
      task.sums = s.c.ptr<float>() + row * task.sums_stride;
    } else {
      task.sums_stride = group * tile_columns();
      task.sums = group_sums - j * tile_columns();
    }
    const int64_t stop = std::min(end, j + group);
    s.a.stride(1) == 1 ? tile_group<RowMajor>(s, task, j, stop)
                       : tile_group<ColumnMajor<kTileRows>>(s, task, j, stop);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(gemm_tile);
HWY_EXPORT(pack_b_panels);
HWY_EXPORT(gemm_task);

namespace {

void run_strip(const GemmStrip& s, float* thread_scratch, int64_t thread_floats) {
  const GemmPlan& plan = *s.plan;
  const int64_t k_blocks = divide_up(s.depth, kGemmDepth),
                panels = divide_up(s.columns, plan.tile.columns);
  constexpr int64_t kPackedTogether = 8;
  const int64_t groups = divide_up(panels, kPackedTogether);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < groups * k_blocks; ++i) {
      const int64_t begin = i / k_blocks * kPackedTogether;
      HWY_DYNAMIC_DISPATCH(pack_b_panels)
      (s, begin, std::min(panels, begin + kPackedTogether), i % k_blocks);
    }
    float* scratch = thread_scratch + omp_get_thread_num() * thread_floats;
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < plan.row_tasks * plan.column_tasks; ++i) {
      HWY_DYNAMIC_DISPATCH(gemm_task)
      (s, i / plan.column_tasks, i % plan.column_tasks, scratch, scratch + plan.packed_a_floats());
    }
  }
}

}  // namespace

void gemm(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
          MatmulOutput output, const Tensor& bias) {
  const int64_t m = a.size(0), n = b.size(1), k = a.size(1), threads = max_threads();
  const bool fp32_output = c.dtype == DType::f32;
  const GemmPlan plan(HWY_DYNAMIC_DISPATCH(gemm_tile)(), m, n, k, fp32_output, threads);
  ArenaScope scope(*ctx.workspace);
  const auto floats = [&](int64_t count) {
    return static_cast<float*>(ctx.workspace->allocate(count * 4));
  };
  GemmStrip s{};
  s.plan = &plan;
  s.add_c = output == MatmulOutput::accumulate;
  s.packed_b = floats(plan.packed_b_floats());
  const int64_t thread_floats = plan.packed_a_floats() + (fp32_output ? 0 : plan.group_floats());
  float* thread_scratch = floats(threads * thread_floats);
  if (!fp32_output && !plan.one_strip(k)) s.sums = floats(plan.block_rows * plan.block_columns);
  if (ctx.planning()) return;
  for (int64_t j = 0; j < n; j += plan.block_columns) {
    s.columns = std::min(plan.block_columns, n - j);
    s.bias = bias.defined() ? bias.slice(0, j, j + s.columns) : bias;
    for (int64_t i = 0; i < m; i += plan.block_rows) {
      s.rows = std::min(plan.block_rows, m - i);
      s.c = c.slice(0, i, i + s.rows).slice(1, j, j + s.columns);
      for (int64_t p = 0; p < k; p += plan.strip) {
        s.depth = std::min(plan.strip, k - p);
        s.a = a.slice(0, i, i + s.rows).slice(1, p, p + s.depth);
        s.b = b.slice(0, p, p + s.depth).slice(1, j, j + s.columns);
        s.first = p == 0;
        s.last = p + s.depth == k;
        run_strip(s, thread_scratch, thread_floats);
      }
    }
  }
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
