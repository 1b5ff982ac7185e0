// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/dispatch.h"

#include <fmt/ranges.h>

namespace forja {

void require_cpu(const Context& ctx, const char* op) {
  if (!ctx.device.is_cpu()) fail("no CUDA version of {} in this build", op);
}

void check_float(const char* op, const char* name, const Tensor& t) {
  FORJA_CHECK(t.defined() && (t.dtype == DType::f32 || t.dtype == DType::bf16),
              "{}: {} must be fp32 or bf16, found {}", op, name, t.to_string());
}

void check_dtype(const char* op, const char* name, const Tensor& t, DType dtype) {
  FORJA_CHECK(t.defined() && t.dtype == dtype, "{}: {} must be {}, found {}", op, name,
              dtype_name(dtype), t.to_string());
}

void check_float32_or(const char* op, const char* name, const Tensor& t, DType dtype) {
  FORJA_CHECK(t.defined() && (t.dtype == DType::f32 || t.dtype == dtype),
              "{}: {} must be fp32 or {}, found {}", op, name, dtype_name(dtype), t.to_string());
}

void check_shape(const char* op, const char* name, const Tensor& t,
                 std::initializer_list<int64_t> shape) {
  FORJA_CHECK(t.has_shape(shape), "{}: {} must have shape [{}], found {}", op, name,
              fmt::join(shape, ", "), t.to_string());
}

void check_rank(const char* op, const char* name, const Tensor& t, int rank) {
  FORJA_CHECK(t.rank == rank, "{}: {} must have {} dims, found {}", op, name, rank, t.to_string());
}

void check_contiguous(const char* op, const char* name, const Tensor& t) {
  FORJA_CHECK(t.is_contiguous(), "{}: {} must be contiguous, found {}", op, name, t.to_string());
}

void check_last_dim_contiguous(const char* op, const char* name, const Tensor& t) {
  FORJA_CHECK(t.rank >= 1 && (t.size(-1) <= 1 || t.stride(-1) == 1),
              "{}: the last dim of {} must be contiguous, found {}", op, name, t.to_string());
}

void check_same(const char* op, const char* name, const Tensor& t, const Tensor& like) {
  FORJA_CHECK(t.rank == like.rank && t.sizes == like.sizes && t.dtype == like.dtype,
              "{}: {} must have the shape and dtype of {}, found {}", op, name, like.to_string(),
              t.to_string());
  check_last_dim_contiguous(op, name, t);
}

void check_index_range(const char* op, const char* name, const Tensor& indices, int64_t limit) {
  const int32_t* index = indices.ptr<int32_t>();
  for (int64_t i = 0; i < indices.num_elements(); ++i) {
    FORJA_CHECK(index[i] >= 0 && index[i] < limit, "{}: {}[{}] is {}, outside [0, {})", op, name, i,
                index[i], limit);
  }
}

}  // namespace forja
