// SPDX-License-Identifier: Apache-2.0
// A view of typed memory: trivially copyable, owns nothing. Whoever made the memory (an Arena, a
// mapped file) keeps it.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "forja/base/dtype.h"
#include "forja/base/error.h"
#include "forja/device/arena.h"
#include "forja/device/device.h"

namespace forja {

struct Tensor {
  static constexpr int kMaxRank = 5;

  void* data = nullptr;  // nullptr in a planning run
  DType dtype = DType::f32;
  Device device;
  int8_t rank = 0;
  std::array<int64_t, kMaxRank> sizes{};
  std::array<int64_t, kMaxRank> strides{};  // in elements

  // Sizes; a negative `dim` counts from the end.
  int64_t size(int dim) const { return sizes[dim < 0 ? dim + rank : dim]; }
  int64_t stride(int dim) const { return strides[dim < 0 ? dim + rank : dim]; }
  int64_t num_elements() const;
  int64_t num_bytes() const {
    return num_elements() * dtype_bytes(dtype);
  }  // of the elements, without gaps
  bool defined() const { return rank > 0; }
  bool is_contiguous() const;
  bool has_shape(std::initializer_list<int64_t> shape) const;

  // The typed pointer of the first element; throws when T is not the dtype.
  template <class T>
  T* ptr() const {
    FORJA_CHECK(dtype_of<T> == dtype, "tensor {} read as {}", to_string(), dtype_name(dtype_of<T>));
    return static_cast<T*>(data);
  }

  // Views. view() needs contiguous elements of the same number; slice() narrows one dim to [begin,
  // end); select() drops one dim; transposed() swaps the last two dims.
  Tensor view(std::initializer_list<int64_t> shape) const;
  Tensor slice(int dim, int64_t begin, int64_t end) const;
  Tensor select(int dim, int64_t index) const;
  Tensor transposed() const;

  // "bf16[4, 16]", with strides where they are not the plain ones.
  std::string to_string() const;
};

// A contiguous view of `data`.
Tensor make_tensor(void* data, DType dtype, std::initializer_list<int64_t> shape,
                   Device device = {});

// A contiguous tensor in the memory of `arena`, on its device, uninitialised.
Tensor allocate(Arena& arena, DType dtype, std::initializer_list<int64_t> shape);

}  // namespace forja
