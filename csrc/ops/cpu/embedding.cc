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

void embedding_rows(const Tensor& ids, const Tensor& table, const Tensor& positions,
                    const Tensor& position_table, const Tensor& out, int64_t begin, int64_t end) {
  dispatch_float(out.dtype, [&]<class T>() {
    const int64_t columns = out.size(1);
    for (int64_t n = begin; n < end; ++n) {
      const T* from = table.ptr<T>() + ids.ptr<int32_t>()[n] * table.stride(0);
      T* to = out.ptr<T>() + n * out.stride(0);
      if (position_table.defined()) {
        const T* position =
            position_table.ptr<T>() + positions.ptr<int32_t>()[n] * position_table.stride(0);
        SumRowBody<T, T, T> body{from, position, to};
        for_vectors(columns, body);
      } else {
        memcpy(static_cast<void*>(to), from, size_t(columns) * sizeof(T));
      }
    }
  });
}

// Columns [begin, end) of all rows, in the order of n.
void embedding_gradient_columns(const Tensor& dout, const Tensor& ids, const Tensor& table_gradient,
                                int64_t begin, int64_t end) {
  dispatch_float(dout.dtype, [&]<class T>() {
    const int32_t* id = ids.ptr<int32_t>();
    for (int64_t n = 0; n < dout.size(0); ++n) {
      float* sum = table_gradient.ptr<float>() + id[n] * table_gradient.stride(0) + begin;
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
HWY_EXPORT(embedding_gradient_columns);

void embedding_forward(const Tensor& ids, const Tensor& table, const Tensor& positions,
                       const Tensor& position_table, const Tensor& out) {
  parallel_pieces(out.size(0), row_grain(out.size(1)), [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(embedding_rows)(ids, table, positions, position_table, out, begin, end);
  });
}

// Each thread owns columns: no two write the same element, and every row of the table gets its
// terms in the order of n.
void embedding_backward(const Tensor& dout, const Tensor& ids, const Tensor& table_gradient) {
  const int64_t columns = dout.size(1);
  const int64_t grain = std::max<int64_t>(64, (columns / max_threads() + 63) / 64 * 64);
  parallel_pieces(columns, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(embedding_gradient_columns)(dout, ids, table_gradient, begin, end);
  });
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
