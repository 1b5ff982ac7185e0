// SPDX-License-Identifier: Apache-2.0
// What the two passes of attention share; included per target after tile-inl.h.
#if defined(FORJA_OPS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FORJA_OPS_CPU_ATTENTION_INL_H_
#undef FORJA_OPS_CPU_ATTENTION_INL_H_
#else
#define FORJA_OPS_CPU_ATTENTION_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

constexpr float kLog2e = 1.44269504f;
constexpr float kLn2 = 0.693147181f;

static_assert(kAttentionRowStride == kRowStride && kRowStride >= kKeyBlock &&
              kRowStride >= kMaxHeadSize);

template <class T>
HWY_INLINE T* head_row(const Tensor& t, int64_t row, int64_t head) {
  return t.ptr<T>() + row * t.stride(0) + head * t.stride(1);
}

// `keys` rows from `row` of one head as transposed panels [panel][D][tile columns].
template <class T>
void pack_keys(const Tensor& t, int64_t row, int64_t head, int64_t keys, float* out) {
  const int64_t width = tile_columns(), dim = t.size(2);
  for (int64_t j = 0; j < keys; j += width) {
    pack_transposed(head_row<T>(t, row + j, head), t.stride(0), std::min(width, keys - j), dim,
                    width, out + j * dim);
  }
}

// Rows of one head, each to `stride` floats, the elements from D to `padded` zero.
template <class T>
void copy_rows(const Tensor& t, int64_t row, int64_t head, int64_t count, int64_t padded,
               float factor, float* out, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) {
    copy_scaled_row(head_row<T>(t, row + i, head), t.size(2), padded, factor, out + i * stride);
  }
}

// To whole panels of the scores.
HWY_INLINE int64_t round_columns(int64_t n) {
  return (n + tile_columns() - 1) / tile_columns() * tile_columns();
}

HWY_INLINE void fill(float* begin, float* end, float value) {
  const auto v = set(value);
  for (; begin + lanes() <= end; begin += lanes()) store(v, begin);
  for (; begin < end; ++begin) *begin = value;
}

// out [tile rows, columns at `stride`] = a b for the panels of b, `panel_stride` apart, that hold
// columns [begin, end) of the result (begin a multiple of the tile's columns).
HWY_INLINE void multiply_rows(const float* a, const float* panels, int64_t dim, int64_t begin,
                              int64_t end, float* out) {
  const int64_t width = tile_columns();
  for (int64_t j = begin; j < end; j += width) {
    TileSum sum;
    multiply_tile(RowMajor{a}, panels + j * dim, width, dim, sum);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v)
        store(sum[i][v], out + i * kRowStride + j + v * lanes());
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
