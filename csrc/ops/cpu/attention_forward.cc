// SPDX-License-Identifier: Apache-2.0
// A chunk of queries keeps, for each row, the weighted sum of values, the maximum of the scores and
// the sum of their exponentials, all for the keys seen so far. Blocks of keys pass by: each is
// packed once (keys transposed) and used by all rows of the chunk and all query heads that share
// it. For the rows of one register tile the scores of a block, 14 by 224, never leave the
// first-level cache between the two products. Scores are in base 2: log2(e) is in the scale.
#include <cmath>
#include <cstring>
#include <limits>

#include "csrc/ops/cpu/attention_kernels.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/attention_forward.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

#include "csrc/ops/cpu/tile-inl.h"

#include "csrc/ops/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Where the rows of one tile stand in a block of keys.
struct TileRange {
  int64_t begin,
      end;  // columns of the scores that any row sees; begin a multiple of the tile's columns
  int64_t first[kTileRows];  // of each row
  int64_t row_end[kTileRows];
};

// Row i < rows is query query_of(i); against the keys [block, block + keys).
template <class F>
HWY_INLINE TileRange tile_range(const Visibility& visible, int64_t rows, const F& query_of,
                                int64_t block, int64_t keys) {
  TileRange range{keys, 0, {}, {}};
  for (int64_t i = 0; i < kTileRows; ++i) {
    if (i >= rows) continue;
    const int64_t query = query_of(i);
    range.first[i] = std::clamp<int64_t>(visible.first(query) - block, 0, keys);
    range.row_end[i] = std::clamp<int64_t>(visible.end(query) - block, 0, keys);
    if (range.first[i] >= range.row_end[i]) continue;
    range.begin = std::min(range.begin, range.first[i]);
    range.end = std::max(range.end, range.row_end[i]);
  }
  range.begin = range.begin / tile_columns() * tile_columns();
  return range;
}

HWY_INLINE float row_maximum(const float* row, int64_t n) {
  const int64_t step = lanes();
  auto m0 = set(kMinusInfinity), m1 = m0;
  for (int64_t j = 0; j < n; j += 2 * step) {
    m0 = hn::Max(m0, hn::Load(DF(), row + j));
    m1 = hn::Max(m1, hn::Load(DF(), row + j + step));
  }
  return max_lanes(hn::Max(m0, m1));
}

// row = 2^(row - maximum); returns the sum.
HWY_INLINE float exponentiate(float* row, int64_t n, float maximum) {
  const int64_t step = lanes();
  const auto m = set(maximum);
  auto s0 = zero(), s1 = zero();
  for (int64_t j = 0; j < n; j += 2 * step) {
    const auto a = vec_exp2(hn::Sub(hn::Load(DF(), row + j), m));
    const auto b = vec_exp2(hn::Sub(hn::Load(DF(), row + j + step), m));
    hn::Store(a, DF(), row + j);
    hn::Store(b, DF(), row + j + step);
    s0 = hn::Add(s0, a);
    s1 = hn::Add(s1, b);
  }
  return sum_lanes(hn::Add(s0, s1));
}

// Turns the scores of a tile into probabilities relative to the new maximum, brings maximum and
// weight up to date, and gives the factor by which earlier sums of each row shrink.
HWY_INLINE void softmax_tile(const TileRange& range, float* scores, float* maximum, float* weight,
                             float* factor) {
  const int64_t columns = round_columns(range.end - range.begin);
  HWY_ALIGN float exponent[kTileRows + 16] = {};
  for (int64_t i = 0; i < kTileRows; ++i) {
    float* row = scores + i * kRowStride;
    fill(row + range.begin, row + std::max(range.begin, range.first[i]), kMinusInfinity);
    fill(row + std::max(range.begin, range.row_end[i]), row + range.begin + columns,
         kMinusInfinity);
    const float larger = std::max(maximum[i], row_maximum(row + range.begin, columns));
    // A row that has seen no key yet stays at zero weight: any finite reference will do.
    exponent[i] = maximum[i] == larger ? 0.0f : maximum[i] - larger;
    maximum[i] = larger;
  }
  for (int64_t i = 0; i < kTileRows; i += lanes()) store(vec_exp2(load(exponent + i)), factor + i);
  for (int64_t i = 0; i < kTileRows; ++i) {
    const float reference = maximum[i] == kMinusInfinity ? 0.0f : maximum[i];
    const float sum = exponentiate(scores + i * kRowStride + range.begin, columns, reference);
    weight[i] = weight[i] * factor[i] + sum;
  }
}

// sum [tile rows, padded] = sum * factor + scores values.
HWY_INLINE void accumulate_values(const TileRange& range, const float* scores, const float* values,
                                  int64_t padded, const float* factor, float* sum) {
  for (int64_t d = 0; d < padded; d += tile_columns()) {
    TileSum product;
    multiply_tile(RowMajor{scores + range.begin}, values + range.begin * padded + d, padded,
                  range.end - range.begin, product);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      const auto f = set(factor[i]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) {
        float* to = sum + i * padded + d + v * lanes();
        store(hn::MulAdd(load(to), f, product[i][v]), to);
      }
    }
  }
}

template <class T>
void finish_row(const float* sum, int64_t dim, float weight, T* out) {
  const float inverse = weight == 0 ? 0.0f : 1.0f / weight;
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= dim; i += step) store(hn::Mul(load(sum + i), set(inverse)), out + i);
  for (; i < dim; ++i) out[i] = T(sum[i] * inverse);
}

// Scaled rows of the chunk, [head][query], each head's padded with zeros to `head_rows`; nothing
// seen so far.
template <class T>
void start_rows(const ForwardArguments& a, const Visibility& visible, const ForwardScratch& s,
                int64_t key_head, int64_t begin, int64_t queries, int64_t head_rows,
                int64_t all_rows) {
  const int64_t group = a.q.size(1) / a.k.size(1), padded = padded_head(a.q.size(2));
  for (int64_t h = 0; h < group; ++h) {
    float* q = s.q + h * head_rows * kRowStride;
    copy_rows<T>(a.q, visible.q_begin + begin, key_head * group + h, queries, padded,
                 a.options.scale * kLog2e, q, kRowStride);
    for (int64_t i = queries; i < head_rows; ++i) memset(q + i * kRowStride, 0, size_t(padded) * 4);
  }
  memset(s.sum, 0, size_t(all_rows * padded) * 4);
  memset(s.weight, 0, size_t(all_rows) * 4);
  std::fill(s.maximum, s.maximum + all_rows, kMinusInfinity);
}

template <class T>
void finish_rows(const ForwardArguments& a, const Visibility& visible, const ForwardScratch& s,
                 int64_t key_head, int64_t begin, int64_t queries, int64_t head_rows) {
  const int64_t group = a.q.size(1) / a.k.size(1), dim = a.q.size(2), padded = padded_head(dim);
  for (int64_t h = 0; h < group; ++h) {
    const int64_t head = key_head * group + h;
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t row = h * head_rows + i, n = visible.q_begin + begin + i;
      finish_row(s.sum + row * padded, dim, s.weight[row], head_row<T>(a.out, n, head));
      if (a.lse.defined()) {
        a.lse.ptr<float>()[head * a.lse.stride(0) + n] =
            (s.maximum[row] + std::log2(s.weight[row])) * kLn2;
      }
    }
  }
}

template <class T>
void many_rows(const ForwardArguments& a, const Visibility& visible, int64_t key_head,
               int64_t begin, int64_t end, const ForwardScratch& s) {
  const int64_t group = a.q.size(1) / a.k.size(1), dim = a.q.size(2), padded = padded_head(dim);
  const int64_t queries = end - begin,
                head_rows = (queries + kTileRows - 1) / kTileRows * kTileRows;
  start_rows<T>(a, visible, s, key_head, begin, queries, head_rows, group * head_rows);
  HWY_ALIGN float factor[kTileRows + 16];
  const int64_t last_key = visible.end(end - 1);
  for (int64_t block = visible.first(begin) / kKeyBlock * kKeyBlock; block < last_key;
       block += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, last_key - block);
    pack_keys<T>(a.k, visible.k_begin + block, key_head, keys, s.keys);
    copy_rows<T>(a.v, visible.k_begin + block, key_head, keys, padded, 1.0f, s.values, padded);
    for (int64_t row = 0; row < group * head_rows; row += kTileRows) {
      const int64_t query = begin + row % head_rows;
      const TileRange range = tile_range(
          visible, std::min<int64_t>(kTileRows, end - query), [&](int64_t i) { return query + i; },
          block, keys);
      if (range.begin >= range.end) continue;
      multiply_rows(s.q + row * kRowStride, s.keys, dim, range.begin, range.end, s.scores);
      softmax_tile(range, s.scores, s.maximum + row, s.weight + row, factor);
      accumulate_values(range, s.scores, s.values, padded, factor, s.sum + row * padded);
    }
  }
  finish_rows<T>(a, visible, s, key_head, begin, queries, head_rows);
}

// ---- Few rows: the keys and values are read once, from where they are; packing them would cost
// more than it saves.

// Scores of kRows rows with n keys, `stride` apart.
template <int kRows, class T>
void few_scores(const float* q, const T* keys, int64_t stride, int64_t n, int64_t dim,
                float* scores) {
  const int64_t step = lanes();
  for (int64_t j = 0; j < n; ++j, keys += stride) {
    VF sum[kRows];
    for (int r = 0; r < kRows; ++r) sum[r] = zero();
    for (int64_t d = 0; d < dim; d += step) {
      const auto k = d + step <= dim ? load(keys + d) : load_n(keys + d, dim - d);
      for (int r = 0; r < kRows; ++r) sum[r] = hn::MulAdd(load(q + r * kRowStride + d), k, sum[r]);
    }
    for (int r = 0; r < kRows; ++r) scores[r * kRowStride + j] = sum_lanes(sum[r]);
  }
}

// sums of kRows rows = sums * factor + scores values.
template <int kRows, class T>
void few_values(const float* scores, const T* values, int64_t stride, int64_t n, int64_t dim,
                const float* factor, float* sums, int64_t padded) {
  const int64_t step = lanes();
  for (int64_t d = 0; d < dim; d += step) {
    VF sum[kRows];
    for (int r = 0; r < kRows; ++r) sum[r] = hn::Mul(load(sums + r * padded + d), set(factor[r]));
    const T* v = values + d;
    for (int64_t j = 0; j < n; ++j, v += stride) {
      const auto x = d + step <= dim ? load(v) : load_n(v, dim - d);
      for (int r = 0; r < kRows; ++r)
        sum[r] = hn::MulAdd(x, set(scores[r * kRowStride + j]), sum[r]);
    }
    for (int r = 0; r < kRows; ++r) store(sum[r], sums + r * padded + d);
  }
}

// Calls f.operator()<kRows>(row) for groups of 4, 2 and 1 rows.
template <class F>
HWY_INLINE void for_row_groups(int64_t rows, const F& f) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) f.template operator()<4>(r);
  for (; r + 2 <= rows; r += 2) f.template operator()<2>(r);
  for (; r < rows; ++r) f.template operator()<1>(r);
}

template <class T>
void few_rows(const ForwardArguments& a, const Visibility& visible, int64_t key_head, int64_t begin,
              int64_t end, const ForwardScratch& s) {
  const int64_t group = a.q.size(1) / a.k.size(1), dim = a.q.size(2), padded = padded_head(dim);
  const int64_t queries = end - begin, rows = group * queries;
  start_rows<T>(a, visible, s, key_head, begin, queries, queries, kTileRows);
  HWY_ALIGN float factor[kTileRows + 16];
  const int64_t last_key = visible.end(end - 1);
  for (int64_t block = visible.first(begin) / kKeyBlock * kKeyBlock; block < last_key;
       block += kKeyBlock) {
    const int64_t keys = std::min(kKeyBlock, last_key - block), row = visible.k_begin + block;
    const TileRange range = tile_range(
        visible, rows, [&](int64_t i) { return begin + i % queries; }, block, keys);
    if (range.begin >= range.end) continue;
    const int64_t n = range.end - range.begin;
    const T* k = head_row<T>(a.k, row + range.begin, key_head);
    const T* v = head_row<T>(a.v, row + range.begin, key_head);
    for_row_groups(rows, [&]<int kRows>(int64_t r) {
      few_scores<kRows>(s.q + r * kRowStride, k, a.k.stride(0), n, dim,
                        s.scores + r * kRowStride + range.begin);
    });
    softmax_tile(range, s.scores, s.maximum, s.weight, factor);
    for_row_groups(rows, [&]<int kRows>(int64_t r) {
      few_values<kRows>(s.scores + r * kRowStride + range.begin, v, a.v.stride(0), n, dim,
                        factor + r, s.sum + r * padded, padded);
    });
  }
  finish_rows<T>(a, visible, s, key_head, begin, queries, queries);
}

void forward_chunk_target(const ForwardArguments& a, const Visibility& visible, int64_t key_head,
                          int64_t begin, int64_t end, uint8_t* scratch) {
  const int64_t group = a.q.size(1) / a.k.size(1);
  Carver carver(scratch);
  const ForwardScratch s(carver, group, a.q.size(2));
  const bool few = group * (end - begin) <= kTileRows;
  dispatch_float(a.q.dtype, [&]<class T>() {
    few ? few_rows<T>(a, visible, key_head, begin, end, s)
        : many_rows<T>(a, visible, key_head, begin, end, s);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(forward_chunk_target);

void forward_chunk(const ForwardArguments& arguments, const Visibility& visible, int64_t key_head,
                   int64_t begin, int64_t end, uint8_t* scratch) {
  HWY_DYNAMIC_DISPATCH(forward_chunk_target)(arguments, visible, key_head, begin, end, scratch);
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
