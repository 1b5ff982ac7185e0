// SPDX-License-Identifier: Apache-2.0
// What the two normalisations check alike.
#pragma once

#include "csrc/ops/cpu/elementwise.h"
#include "csrc/ops/cpu/rows.h"
#include "csrc/ops/dispatch.h"

namespace forja {

inline void check_norm_rows(const char* op, const char* name, const Tensor& x) {
  check_float(op, name, x);
  FORJA_CHECK(x.rank == 2 || x.rank == 3, "{}: {} must have 2 or 3 dims, found {}", op, name,
              x.to_string());
  check_last_dim_contiguous(op, name, x);
}

inline void check_norm_weight(const char* op, const char* name, const Tensor& weight,
                              const Tensor& x) {
  check_float32_or(op, name, weight, x.dtype);
  check_shape(op, name, weight, {x.size(-1)});
  check_contiguous(op, name, weight);
}

inline void check_norm_statistic(const char* op, const char* name, const Tensor& t,
                                 const Tensor& x) {
  check_dtype(op, name, t, DType::f32);
  check_shape(op, name, t, {cpu::num_rows(x)});
  check_contiguous(op, name, t);
}

inline void check_norm_gradient(const char* op, const char* name, const Tensor& t,
                                const Tensor& x) {
  if (!t.defined()) return;
  check_dtype(op, name, t, DType::f32);
  check_shape(op, name, t, {x.size(-1)});
  check_contiguous(op, name, t);
}

// The weight in fp32: itself, or a copy in scratch, so that kernels need not know both dtypes.
inline Tensor float_copy(const Context& ctx, const Tensor& weight) {
  if (!weight.defined() || weight.dtype == DType::f32) return weight;
  const Tensor copy = allocate(*ctx.workspace, DType::f32, {weight.size(0)});
  if (!ctx.planning()) cpu::convert(weight, copy);
  return copy;
}

}  // namespace forja
