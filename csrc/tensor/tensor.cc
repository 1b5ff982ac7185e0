// SPDX-License-Identifier: Apache-2.0
#include "forja/tensor/tensor.h"

#include <algorithm>

namespace forja {

int64_t Tensor::num_elements() const {
  int64_t n = 1;
  for (int i = 0; i < rank; ++i) n *= sizes[i];
  return rank == 0 ? 0 : n;
}

bool Tensor::is_contiguous() const {
  int64_t expected = 1;
  for (int i = rank - 1; i >= 0; --i) {
    if (sizes[i] != 1 && strides[i] != expected) return false;
    expected *= sizes[i];
  }
  return true;
}

bool Tensor::has_shape(std::initializer_list<int64_t> shape) const {
  return int(shape.size()) == rank && std::equal(shape.begin(), shape.end(), sizes.begin());
}

Tensor make_tensor(void* data, DType dtype, std::initializer_list<int64_t> shape, Device device) {
  FORJA_CHECK(shape.size() <= Tensor::kMaxRank, "rank {} is above {}", shape.size(),
              Tensor::kMaxRank);
  Tensor t;
  t.data = data;
  t.dtype = dtype;
  t.device = device;
  t.rank = int8_t(shape.size());
  std::copy(shape.begin(), shape.end(), t.sizes.begin());
  int64_t stride = 1;
  for (int i = t.rank - 1; i >= 0; --i) {
    FORJA_CHECK(t.sizes[i] >= 0, "size {} of dim {} is negative", t.sizes[i], i);
    t.strides[i] = stride;
    stride *= t.sizes[i];
  }
  return t;
}

Tensor allocate(Arena& arena, DType dtype, std::initializer_list<int64_t> shape) {
  Tensor t = make_tensor(nullptr, dtype, shape, arena.device());
  t.data = arena.allocate(t.num_bytes());
  return t;
}

Tensor Tensor::view(std::initializer_list<int64_t> shape) const {
  FORJA_CHECK(is_contiguous(), "view of {}, which is not contiguous", to_string());
  Tensor t = make_tensor(data, dtype, shape, device);
  FORJA_CHECK(t.num_elements() == num_elements(), "view of {} as {}", to_string(), t.to_string());
  return t;
}

Tensor Tensor::slice(int dim, int64_t begin, int64_t end) const {
  if (dim < 0) dim += rank;
  FORJA_CHECK(dim >= 0 && dim < rank && 0 <= begin && begin <= end && end <= sizes[dim],
              "slice [{}, {}) of dim {} of {}", begin, end, dim, to_string());
  Tensor t = *this;
  t.sizes[dim] = end - begin;
  if (data) t.data = static_cast<uint8_t*>(data) + begin * strides[dim] * dtype_bytes(dtype);
  return t;
}

Tensor Tensor::select(int dim, int64_t index) const {
  if (dim < 0) dim += rank;
  Tensor t = slice(dim, index, index + 1);
  for (int i = dim; i + 1 < rank; ++i) {
    t.sizes[i] = t.sizes[i + 1];
    t.strides[i] = t.strides[i + 1];
  }
  --t.rank;
  return t;
}

Tensor Tensor::transposed() const {
  FORJA_CHECK(rank >= 2, "transpose of {}", to_string());
  Tensor t = *this;
  std::swap(t.sizes[rank - 1], t.sizes[rank - 2]);
  std::swap(t.strides[rank - 1], t.strides[rank - 2]);
  return t;
}

std::string Tensor::to_string() const {
  auto list = [this](const auto& values) {
    std::string out = "[";
    for (int i = 0; i < rank; ++i) out += (i ? ", " : "") + std::to_string(values[i]);
    return out + "]";
  };
  std::string out = std::string(dtype_name(dtype)) + list(sizes);
  if (!is_contiguous()) out += " strides " + list(strides);
  return out;
}

}  // namespace forja
