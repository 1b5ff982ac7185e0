// SPDX-License-Identifier: Apache-2.0
// The register tile of matrix products: kTileRows x tile_columns() sums of an outer product, for
// each k a vector row of b times the elements of a column of a, broadcast. Shared by gemm and
// attention; included per target after vec-inl.h.
#if defined(FORJA_OPS_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FORJA_OPS_CPU_TILE_INL_H_
#undef FORJA_OPS_CPU_TILE_INL_H_
#else
#define FORJA_OPS_CPU_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

// As many accumulators as the registers hold beside two vectors of b and one broadcast element.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kTileRows = 14;
#else
constexpr int kTileRows = 6;
#endif
constexpr int kTileVectors = 2;
HWY_INLINE int64_t tile_columns() { return kTileVectors * lanes(); }

// Floats between the rows of a in row-major panels. Fixed, so that the rows of a tile are reached
// with one pointer; the depth of a panel is at most 256, and the odd number of cache lines spreads
// the rows over the cache sets.
constexpr int64_t kRowStride = 272;

// The elements of a column of a, and the step to the next column.
struct RowMajor {  // a[i * kRowStride + k]
  const float* a;
  HWY_INLINE float at(int i) const { return a[i * kRowStride]; }
  HWY_INLINE void next() { ++a; }
};
template <int64_t kStride>
struct ColumnMajor {  // a[k * kStride + i]
  const float* a;
  HWY_INLINE float at(int i) const { return a[i]; }
  HWY_INLINE void next() { a += kStride; }
};
using TileSum = VF[kTileRows][kTileVectors];

// sum = a b over `depth` values of k. b is [k][columns of the tile], b_stride floats apart,
// aligned.
template <class A>
HWY_INLINE void multiply_tile(A a, const float* HWY_RESTRICT b, int64_t b_stride, int64_t depth,
                              TileSum& sum) {
  const int64_t step = lanes();
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) sum[i][v] = zero();
  }
  for (int64_t k = 0; k < depth; ++k) {
    VF row[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) row[v] = hn::Load(DF(), b + v * step);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      const auto x = set(a.at(i));
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) sum[i][v] = hn::MulAdd(x, row[v], sum[i][v]);
    }
    a.next();
    b += b_stride;
  }
}

// depth x columns of column-major b (column j at b + j * stride) into [k][column], `width` floats
// apart; columns beyond up to `width` become 0. Four columns at a time are interleaved to [k][4],
// which then move to their place.
template <class T>
void pack_transposed(const T* b, int64_t stride, int64_t columns, int64_t depth, int64_t width,
                     float* out) {
  const int64_t step = lanes();
  HWY_ALIGN float quads[4 * hn::MaxLanes(DF())];
  int64_t j = 0;
  for (; step >= 4 && j + 4 <= columns; j += 4) {
    const T* from = b + j * stride;
    float* to = out + j;
    int64_t k = 0;
    for (; k + step <= depth; k += step) {
      hn::StoreInterleaved4(load(from + k), load(from + stride + k), load(from + 2 * stride + k),
                            load(from + 3 * stride + k), DF(), quads);
      for (int64_t i = 0; i < step; ++i)
        memcpy(to + (k + i) * width, quads + 4 * i, 4 * sizeof(float));
    }
    for (; k < depth; ++k) {
      for (int64_t i = 0; i < 4; ++i) to[k * width + i] = float(from[i * stride + k]);
    }
  }
  for (; j < width; ++j) {
    for (int64_t k = 0; k < depth; ++k)
      out[k * width + j] = j < columns ? float(b[j * stride + k]) : 0.0f;
  }
}

// out[0, n) = row in fp32, out[n, padded) = 0.
template <class T>
HWY_INLINE void copy_row(const T* row, int64_t n, int64_t padded, float* out) {
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) store(load(row + i), out + i);
  for (; i < n; ++i) out[i] = float(row[i]);
  for (; i < padded; ++i) out[i] = 0;
}

// The same, times factor.
template <class T>
HWY_INLINE void copy_scaled_row(const T* row, int64_t n, int64_t padded, float factor, float* out) {
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) store(hn::Mul(load(row + i), set(factor)), out + i);
  for (; i < n; ++i) out[i] = float(row[i]) * factor;
  for (; i < padded; ++i) out[i] = 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
