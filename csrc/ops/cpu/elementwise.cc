// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/elementwise.h"

#include <atomic>
#include <cmath>
#include <cstring>

#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/dispatch.h"
#include "forja/base/philox.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/elementwise.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

template <class TA, class TB, class TO>
struct AddBody {
  const TA* a;
  const TB* b;
  TO* out;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    A::put(hn::Add(A::get(a + i, n), A::get(b + i, n)), out + i, n);
  }
};

void add_piece(const Tensor& a, const Tensor& b, const Tensor& out, int64_t begin, int64_t end) {
  dispatch_float(a.dtype, [&]<class TA>() {
    dispatch_float(b.dtype, [&]<class TB>() {
      dispatch_float(out.dtype, [&]<class TO>() {
        AddBody<TA, TB, TO> body{a.ptr<TA>() + begin, b.ptr<TB>() + begin, out.ptr<TO>() + begin};
        for_vectors(end - begin, body);
      });
    });
  });
}

template <class TI, class TO>
struct ConvertBody {
  const TI* in;
  TO* out;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    A::put(A::get(in + i, n), out + i, n);
  }
};

void convert_piece(const Tensor& in, const Tensor& out, int64_t begin, int64_t end) {
  dispatch_float(in.dtype, [&]<class TI>() {
    dispatch_float(out.dtype, [&]<class TO>() {
      ConvertBody<TI, TO> body{in.ptr<TI>() + begin, out.ptr<TO>() + begin};
      for_vectors(end - begin, body);
    });
  });
}

template <class T>
struct AccumulateBody {
  const T* x;
  float* sum;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    A::put(hn::Add(A::get(sum + i, n), A::get(x + i, n)), sum + i, n);
  }
};

// sum[c] += rows[r, c] for rows [begin, end).
void accumulate_rows(const Tensor& rows, int64_t begin, int64_t end, float* sum) {
  dispatch_float(rows.dtype, [&]<class T>() {
    for (int64_t r = begin; r < end; ++r) {
      AccumulateBody<T> body{rows.ptr<T>() + r * rows.stride(0), sum};
      for_vectors(rows.size(1), body);
    }
  });
}

template <class T>
int64_t first_non_finite(const T* x, int64_t n) {
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    if (!hn::AllTrue(DF(), hn::IsFinite(load(x + i)))) break;
  }
  for (; i < n; ++i) {
    if (!std::isfinite(float(x[i]))) return i;
  }
  return -1;
}

int64_t first_non_finite_piece(const Tensor& x, int64_t begin, int64_t end) {
  return dispatch_float(
      x.dtype, [&]<class T>() { return first_non_finite(x.ptr<T>() + begin, end - begin); });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(add_piece);
HWY_EXPORT(convert_piece);
HWY_EXPORT(accumulate_rows);
HWY_EXPORT(first_non_finite_piece);

void fill_zero(const Tensor& x) {
  const int64_t bytes = x.num_bytes();
  uint8_t* data = static_cast<uint8_t*>(x.data);
  parallel_pieces(bytes, 4 * kGrainElements, [&](int64_t begin, int64_t end) {
    memset(data + begin, 0, size_t(end - begin));
  });
}

void scale(const Tensor& x, float factor, const Tensor& out) {
  dispatch_float(x.dtype, [&]<class T>() {
    const T* from = x.ptr<T>();
    T* to = out.ptr<T>();
    parallel_pieces(x.num_elements(), kGrainElements, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = T(factor * float(from[i]));
    });
  });
}

void fill_value(const Tensor& x, float value) {
  dispatch_float(x.dtype, [&]<class T>() {
    T* data = x.ptr<T>();
    parallel_pieces(x.num_elements(), kGrainElements, [&](int64_t begin, int64_t end) {
      std::fill(data + begin, data + end, T(value));
    });
  });
}

// Element e belongs to the quad q = e / 4 and takes number e % 4 of its four: with w = philox(key,
// q, 0), elements 4q and 4q + 1 are the normal pair of the words w[0], w[1], elements 4q + 2 and 4q
// + 3 that of w[2], w[3].
void fill_normal(const Tensor& x, uint64_t key, int64_t first_element, float mean, float std) {
  float* data = x.ptr<float>();
  const int64_t last = first_element + x.num_elements();
  const int64_t first_quad = first_element / 4;
  parallel_pieces(
      (last + 3) / 4 - first_quad, kGrainElements / 16, [&](int64_t begin, int64_t end) {
        for (int64_t q = first_quad + begin; q < first_quad + end; ++q) {
          const Philox4 word = philox(key, uint64_t(q), 0);
          float value[4];
          normal_pair(word.v[0], word.v[1], &value[0], &value[1]);
          normal_pair(word.v[2], word.v[3], &value[2], &value[3]);
          for (int64_t e = std::max(4 * q, first_element); e < std::min(4 * q + 4, last); ++e) {
            data[e - first_element] = mean + std * value[e % 4];
          }
        }
      });
}

void convert(const Tensor& in, const Tensor& out) {
  parallel_pieces(in.num_elements(), kGrainElements, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(convert_piece)(in, out, begin, end);
  });
}

void add(const Tensor& a, const Tensor& b, const Tensor& out) {
  parallel_pieces(out.num_elements(), kGrainElements, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(add_piece)(a, b, out, begin, end);
  });
}

void add_partial_sums(const Tensor& partial, const Tensor& gradient) {
  const int64_t columns = partial.size(1);
  parallel_pieces(columns, 512, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(accumulate_rows)
    (partial.slice(1, begin, end), 0, partial.size(0), gradient.ptr<float>() + begin);
  });
}

void bias_gradient(const Tensor& dy, const Tensor& bias_gradient, const Tensor& partial) {
  const int64_t rows = dy.size(0);
  parallel_pieces(rows, rows_per_block(rows), [&](int64_t begin, int64_t end) {
    float* sum = partial.ptr<float>() + begin / rows_per_block(rows) * dy.size(1);
    memset(sum, 0, size_t(dy.size(1)) * sizeof(float));
    HWY_DYNAMIC_DISPATCH(accumulate_rows)(dy, begin, end, sum);
  });
  const int64_t blocks = (rows + rows_per_block(rows) - 1) / rows_per_block(rows);
  add_partial_sums(partial.slice(0, 0, blocks), bias_gradient);
}

int64_t find_non_finite(const Tensor& x) {
  const int64_t n = x.num_elements();
  std::atomic<int64_t> first = n;
  parallel_pieces(n, kGrainElements, [&](int64_t begin, int64_t end) {
    if (first.load(std::memory_order_relaxed) < begin) return;
    const int64_t found = HWY_DYNAMIC_DISPATCH(first_non_finite_piece)(x, begin, end);
    if (found < 0) return;
    int64_t now = first.load(std::memory_order_relaxed);
    while (begin + found < now && !first.compare_exchange_weak(now, begin + found)) {
    }
  });
  return first == n ? -1 : first.load();
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
