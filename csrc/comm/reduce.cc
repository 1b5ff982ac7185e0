// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/reduce.h"

#include <algorithm>

namespace forja {
namespace {

// Blocks that stay in the first-level cache: every part is read once, the result is written once.
constexpr int64_t kBlock = 1024;

template <class T, class Sum, class Combine>
void reduce_blocks(const std::vector<const void*>& parts, T* out, int64_t n, Combine combine) {
  Sum sums[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t size = std::min(kBlock, n - begin);
    const T* first = static_cast<const T*>(parts[0]) + begin;
    for (int64_t i = 0; i < size; ++i) sums[i] = Sum(first[i]);
    for (size_t r = 1; r < parts.size(); ++r) {
      const T* part = static_cast<const T*>(parts[r]) + begin;
      for (int64_t i = 0; i < size; ++i) sums[i] = combine(sums[i], Sum(part[i]));
    }
    for (int64_t i = 0; i < size; ++i) out[begin + i] = T(sums[i]);
  }
}

template <class T, class Sum = T>
void reduce_typed(ReduceOp op, const std::vector<const void*>& parts, void* out, int64_t n) {
  T* const to = static_cast<T*>(out);
  switch (op) {
    case ReduceOp::sum:
      return reduce_blocks<T, Sum>(parts, to, n, [](Sum a, Sum b) { return a + b; });
    case ReduceOp::max:
      return reduce_blocks<T, Sum>(parts, to, n, [](Sum a, Sum b) { return b > a ? b : a; });
    case ReduceOp::min:
      return reduce_blocks<T, Sum>(parts, to, n, [](Sum a, Sum b) { return b < a ? b : a; });
  }
}

}  // namespace

bool is_reducible(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16 ||
         dtype == DType::i32 || dtype == DType::i64;
}

void reduce_parts(DType dtype, ReduceOp op, const std::vector<const void*>& parts, void* out,
                  int64_t n) {
  switch (dtype) {
    case DType::f32:
      return reduce_typed<float>(op, parts, out, n);
    case DType::f64:
      return reduce_typed<double>(op, parts, out, n);
    case DType::bf16:
      return reduce_typed<BFloat16, float>(op, parts, out, n);
    case DType::i32:
      return reduce_typed<int32_t>(op, parts, out, n);
    case DType::i64:
      return reduce_typed<int64_t>(op, parts, out, n);
    default:
      fail("no reduction of {}", dtype_name(dtype));
  }
}

}  // namespace forja
