// SPDX-License-Identifier: Apache-2.0
// One key head of one sequence. Blocks of keys pass by; for each, steps of query rows of every
// query head that shares them. In a step, with S the scores in base 2 and L the row's log-sum-exp:
//   P = 2^(S - L),  dP = dO V^T,  dS = P (dP - rowsum(dO O)),
//   dV += P^T dO,  dK += dS^T Q,  dQ += dS K.
// dK and dV of the block are complete when it has passed; dQ is summed over the blocks. Every sum
// has a fixed order.
#include <cmath>
#include <cstring>

#include "csrc/ops/cpu/attention_kernels.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/attention_backward.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

#include "csrc/ops/cpu/tile-inl.h"

#include "csrc/ops/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

// A block of keys and a step of queries of one head.
struct Step {
  int64_t block, keys;  // the block's first key and number of keys
  int64_t query, rows;  // the step's first query and number of queries
  int64_t row;          // of the first query in dq, delta and lse
  int64_t begin, end;   // columns that any of its rows sees; begin a multiple of the tile's columns
};

// scores -> probabilities, dprobability -> dscores, of one row: columns [begin, end), outside
// [first, last) zero.
HWY_INLINE void softmax_row(float* p, float* ds, int64_t begin, int64_t end, int64_t first,
                            int64_t last, float lse, float delta) {
  const auto l = set(lse), d = set(delta);
  // Whole vectors around the visible columns, then zeros over what is not.
  const int64_t from = first / lanes() * lanes();
  for (int64_t j = from; j < last; j += lanes()) {
    const auto e = vec_exp2(hn::Sub(hn::Load(DF(), p + j), l));
    hn::Store(e, DF(), p + j);
    hn::Store(hn::Mul(e, hn::Sub(hn::Load(DF(), ds + j), d)), DF(), ds + j);
  }
  first = std::max(first, begin);
  last = std::max(first, last);
  fill(p + begin, p + first, 0.0f);
  fill(ds + begin, ds + first, 0.0f);
  fill(p + last, p + end, 0.0f);
  fill(ds + last, ds + end, 0.0f);
}

// P and dS of the step's rows, rows padded to the tile; columns as wide as both the products over
// keys and those over rows go, whose tiles start and end at different multiples.
void score_step(const Visibility& visible, const BackwardScratch& s, const Step& step,
                int64_t dim) {
  const int64_t begin = step.begin / kTileRows * kTileRows;
  const int64_t end =
      std::max(round_columns(step.end), (step.end + kTileRows - 1) / kTileRows * kTileRows);
  for (int64_t r = 0; r < step.rows; r += kTileRows) {
    float* p = s.probability + r * kRowStride;
    float* ds = s.dscore + r * kRowStride;
    const int64_t last_row = std::min(step.rows, r + kTileRows) - 1;
    const int64_t first =
        std::clamp<int64_t>(visible.first(step.query + r) - step.block, 0, step.keys);
    const int64_t last =
        std::clamp<int64_t>(visible.end(step.query + last_row) - step.block, 0, step.keys);
    if (first < last) {
      const int64_t from = first / tile_columns() * tile_columns();
      multiply_rows(s.q + r * kRowStride, s.keys, dim, from, last, p);
      multiply_rows(s.dout + r * kRowStride, s.values, dim, from, last, ds);
    }
    for (int64_t i = r; i < r + kTileRows; ++i, p += kRowStride, ds += kRowStride) {
      const bool exists = i < step.rows;
      const int64_t row_first =
          exists ? std::clamp<int64_t>(visible.first(step.query + i) - step.block, 0, step.keys)
                 : 0;
      const int64_t row_end =
          exists ? std::clamp<int64_t>(visible.end(step.query + i) - step.block, 0, step.keys) : 0;
      const float lse = exists ? s.lse[step.row + i] : 0.0f,
                  delta = exists ? s.delta[step.row + i] : 0.0f;
      softmax_row(p, ds, begin, end, row_first, row_end, lse, delta);
    }
  }
}

HWY_INLINE void add_tile(const TileSum& sum, float* to, int64_t stride) {
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      float* at = to + i * stride + v * lanes();
      store(hn::Add(load(at), sum[i][v]), at);
    }
  }
}

// to [keys, padded] += scores^T [keys, rows] rows_of [rows, padded], for the step's columns.
HWY_INLINE void accumulate_keys(const float* scores, const float* rows_of, const Step& step,
                                int64_t padded, float* to) {
  for (int64_t d = 0; d < padded; d += tile_columns()) {
    for (int64_t j = step.begin / kTileRows * kTileRows; j < step.end; j += kTileRows) {
      TileSum sum;
      multiply_tile(ColumnMajor<kRowStride>{scores + j}, rows_of + d, kRowStride, step.rows, sum);
      add_tile(sum, to + j * padded + d, padded);
    }
  }
}

// dq [rows, padded] += dscores [rows, keys] keys [keys, padded].
HWY_INLINE void accumulate_queries(const BackwardScratch& s, const Step& step, int64_t padded) {
  for (int64_t r = 0; r < step.rows; r += kTileRows) {
    for (int64_t d = 0; d < padded; d += tile_columns()) {
      TileSum sum;
      multiply_tile(RowMajor{s.dscore + r * kRowStride + step.begin},
                    s.key_rows + step.begin * padded + d, padded, step.end - step.begin, sum);
      add_tile(sum, s.dq + (step.row + r) * padded + d, padded);
    }
  }
}

template <class T>
void copy_step_rows(const Tensor& t, int64_t row, int64_t head, const Step& step, int64_t padded,
                    float factor, float* out) {
  copy_rows<T>(t, row, head, step.rows, padded, factor, out, kRowStride);
  for (int64_t i = step.rows; i % kTileRows != 0; ++i)
    memset(out + i * kRowStride, 0, size_t(padded) * 4);
}

template <class T>
float row_dot(const T* a, const T* b, int64_t n) {
  const int64_t step = lanes();
  auto sum = zero();
  int64_t i = 0;
  for (; i + step <= n; i += step) sum = hn::MulAdd(load(a + i), load(b + i), sum);
  if (i < n) sum = hn::MulAdd(load_n(a + i, n - i), load_n(b + i, n - i), sum);
  return sum_lanes(sum);
}

// Rows of sums, times factor, to the rows of one head.
template <class T>
void write_rows(const float* sums, int64_t padded, float factor, const Tensor& t, int64_t row,
                int64_t head, int64_t count) {
  const int64_t dim = t.size(2), step = lanes();
  for (int64_t r = 0; r < count; ++r, sums += padded) {
    T* to = head_row<T>(t, row + r, head);
    int64_t i = 0;
    for (; i + step <= dim; i += step) store(hn::Mul(load(sums + i), set(factor)), to + i);
    for (; i < dim; ++i) to[i] = T(sums[i] * factor);
  }
}

// All query heads and steps against one block of keys.
template <class T>
void backward_block(const BackwardArguments& a, const Visibility& visible, const BackwardScratch& s,
                    int64_t key_head, int64_t block, int64_t keys) {
  const int64_t group = a.q.size(1) / a.k.size(1), dim = a.q.size(2), padded = padded_head(dim);
  constexpr int64_t kStepRows = kBackwardRows / kTileRows * kTileRows;
  for (int64_t h = 0; h < group; ++h) {
    for (int64_t query = 0; query < visible.q_length; query += kStepRows) {
      Step step{
          block, keys, query, std::min(kStepRows, visible.q_length - query), h * visible.q_length,
          0,     0};
      step.row += query;
      step.end = std::clamp<int64_t>(visible.end(query + step.rows - 1) - block, 0, keys);
      step.begin = std::clamp<int64_t>(visible.first(query) - block, 0, keys);
      if (step.begin >= step.end) continue;
      step.begin = step.begin / tile_columns() * tile_columns();
      const int64_t row = visible.q_begin + query, head = key_head * group + h;
      copy_step_rows<T>(a.q, row, head, step, padded, a.options.scale * kLog2e, s.q);
      copy_step_rows<T>(a.dout, row, head, step, padded, 1.0f, s.dout);
      score_step(visible, s, step, dim);
      accumulate_keys(s.probability, s.dout, step, padded, s.dvalues);
      accumulate_keys(s.dscore, s.q, step, padded, s.dkeys);
      accumulate_queries(s, step, padded);
    }
  }
}

template <class T>
void backward_head_of(const BackwardArguments& a, const Visibility& visible, int64_t key_head,
                      uint8_t* memory) {
  const int64_t group = a.q.size(1) / a.k.size(1), dim = a.q.size(2), padded = padded_head(dim);
  Carver carver(memory);
  const BackwardScratch s(carver, group, dim, a.q.size(0));
  for (int64_t h = 0; h < group; ++h) {
    const int64_t head = key_head * group + h;
    for (int64_t i = 0; i < visible.q_length; ++i) {
      const int64_t n = visible.q_begin + i;
      s.delta[h * visible.q_length + i] =
          row_dot(head_row<T>(a.dout, n, head), head_row<T>(a.out, n, head), dim);
      s.lse[h * visible.q_length + i] = a.lse.ptr<float>()[head * a.lse.stride(0) + n] * kLog2e;
    }
  }
  memset(s.dq, 0, size_t((group * visible.q_length + kTileRows) * padded) * 4);
  for (int64_t block = 0; block < visible.k_length; block += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, visible.k_length - block),
                  row = visible.k_begin + block;
    pack_keys<T>(a.k, row, key_head, keys, s.keys);
    pack_keys<T>(a.v, row, key_head, keys, s.values);
    copy_rows<T>(a.k, row, key_head, keys, padded, 1.0f, s.key_rows, padded);
    memset(s.dkeys, 0, size_t((keys + kTileRows) * padded) * 4);
    memset(s.dvalues, 0, size_t((keys + kTileRows) * padded) * 4);
    backward_block<T>(a, visible, s, key_head, block, keys);
    // The queries in the sum for dK carry scale * log2(e).
    write_rows<T>(s.dkeys, padded, kLn2, a.dk, row, key_head, keys);
    write_rows<T>(s.dvalues, padded, 1.0f, a.dv, row, key_head, keys);
  }
  for (int64_t h = 0; h < group; ++h) {
    write_rows<T>(s.dq + h * visible.q_length * padded, padded, a.options.scale, a.dq,
                  visible.q_begin, key_head * group + h, visible.q_length);
  }
}

void backward_head_target(const BackwardArguments& a, const Visibility& visible, int64_t key_head,
                          uint8_t* scratch) {
  dispatch_float(a.q.dtype, [&]<class T>() { backward_head_of<T>(a, visible, key_head, scratch); });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(backward_head_target);

void backward_head(const BackwardArguments& arguments, const Visibility& visible, int64_t key_head,
                   uint8_t* scratch) {
  HWY_DYNAMIC_DISPATCH(backward_head_target)(arguments, visible, key_head, scratch);
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
