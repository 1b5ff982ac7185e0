// SPDX-License-Identifier: Apache-2.0
// A tensor of rank 1 to 3 as rows: all dims but the last, flattened; the last dim is contiguous.
#pragma once

#include <cstdint>

#include "forja/tensor/tensor.h"

namespace forja::cpu {

inline int64_t num_rows(const Tensor& t) {
  return t.rank == 3 ? t.sizes[0] * t.sizes[1] : t.rank == 2 ? t.sizes[0] : 1;
}

template <class T>
class Rows {
 public:
  explicit Rows(const Tensor& t)
      : data_(t.ptr<T>()),
        inner_(t.rank == 3 ? t.sizes[1] : 1),
        inner_stride_(t.rank == 3 ? t.strides[1] : 0),
        outer_stride_(t.rank > 1 ? t.strides[0] : 0) {}
  T* operator[](int64_t r) const {
    return inner_ == 1 ? data_ + r * outer_stride_
                       : data_ + r / inner_ * outer_stride_ + r % inner_ * inner_stride_;
  }

 private:
  T* data_;
  int64_t inner_, inner_stride_, outer_stride_;
};

}  // namespace forja::cpu
