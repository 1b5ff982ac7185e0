// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/embedding.h"

#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/embedding.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

template <class TA, class TB, class TO>
struct SumRowBody {
  const TA* a;
  const TB* b;
  TO* out;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    A::put(hn::Add(A::get(a + i, n), A::get(b + i, n)), out + i, n);
  }
};

void embedding_rows(const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& out,
                    int64_t begin, int64_t end) {
  dispatch_float(out.dtype, [&]<class T>() {
    const size_t bytes = size_t(out.size(1)) * sizeof(T);
    for (int64_t n = begin; n < end; ++n) {
      const int64_t row = ids.ptr<int32_t>()[n] - first_row;
      void* to = out.ptr<T>() + n * out.stride(0);
      if (row >= 0 && row < table.size(0)) {
        memcpy(to, table.ptr<T>() + row * table.stride(0), bytes);
      } else {
        memset(to, 0, bytes);
      }
    }
  });
}

void embedding_add_rows(const Tensor& ids, const Tensor& table, const Tensor& out, int64_t begin,
                        int64_t end) {
  dispatch_float(out.dtype, [&]<class T>() {
    for (int64_t n = begin; n < end; ++n) {
      T* to = out.ptr<T>() + n * out.stride(0);
      SumRowBody<T, T, T> body{to, table.ptr<T>() + ids.ptr<int32_t>()[n] * table.stride(0), to};
      for_vectors(out.size(1), body);
    }
  });
}

// Columns [begin, end) of all rows, in the order of n.
void embedding_gradient_columns(const Tensor& dout, const Tensor& ids, int64_t first_row,
                                const Tensor& table_gradient, int64_t begin, int64_t end) {
  dispatch_float(dout.dtype, [&]<class T>() {
    const int32_t* id = ids.ptr<int32_t>();
    for (int64_t n = 0; n < dout.size(0); ++n) {
      const int64_t row = id[n] - first_row;
      if (row < 0 || row >= table_gradient.size(0)) continue;
      float* sum = table_gradient.ptr<float>() + row * table_gradient.stride(0) + begin;
      SumRowBody<float, T, float> body{sum, dout.ptr<T>() + n * dout.stride(0) + begin, sum};
      for_vectors(end - begin, body);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(embedding_rows);
HWY_EXPORT(embedding_add_rows);
HWY_EXPORT(embedding_gradient_columns);

void embedding_forward(const Tensor& ids, const Tensor& table, int64_t first_row,
                       const Tensor& out) {
  parallel_pieces(out.size(0), row_grain(out.size(1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(embedding_rows)(ids, table, first_row, out, begin, end);
  });
}

void embedding_add(const Tensor& ids, const Tensor& table, const Tensor& out) {
  parallel_pieces(out.size(0), row_grain(out.size(1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(embedding_add_rows)(ids, table, out, begin, end);
  });
}

// Each thread owns columns: no two write the same element, and every row of the table gets its
// terms in the order of n.
void embedding_backward(const Tensor& dout, const Tensor& ids, int64_t first_row,
                        const Tensor& table_gradient) {
  const int64_t columns = dout.size(1);
  const int64_t grain = std::max<int64_t>(64, (columns / max_threads() + 63) / 64 * 64);
  parallel_pieces(columns, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(embedding_gradient_columns)
    (dout, ids, first_row, table_gradient, begin, end);
  });
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
