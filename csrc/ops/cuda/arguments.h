// SPDX-License-Identifier: Apache-2.0
// What the CUDA half of every op shares.
#pragma once

#include "forja/base/error.h"
#include "forja/device/context.h"
#include "forja/tensor/tensor.h"
#include "kernels/common/rows.h"

namespace forja::cuda {

// The memory of `t`, which must be on the context's device; nullptr for an undefined tensor, and in
// a planning run.
inline void* data(const Context& ctx, const Tensor& t) {
  if (!t.defined() || ctx.planning()) return nullptr;
  FORJA_CHECK(t.device == ctx.device, "{} is not on the device of the op", t.to_string());
  return t.data;
}

// The same where the dtype is known.
template <class T>
T* typed(const Context& ctx, const Tensor& t) {
  return data(ctx, t) ? t.ptr<T>() : nullptr;
}

// A tensor of rank 2 or 3 as rows; no memory for an undefined one.
inline kernels::Rows rows(const Context& ctx, const Tensor& t) {
  kernels::Rows r{data(ctx, t)};
  if (!t.defined()) return r;
  const bool nested =
      t.rank == 3 && t.size(0) > 1 && t.size(1) > 1 && t.stride(0) != t.size(1) * t.stride(1);
  const int64_t num_rows = t.rank == 3 ? t.size(0) * t.size(1) : t.size(0);
  FORJA_CHECK(num_rows <= 0xffffffff, "{} has more rows than a kernel can count", t.to_string());
  if (nested) {
    r.inner = uint32_t(t.size(1));
    r.inner_stride = t.stride(1);
  }
  // With one row in the outer or inner dim, the other one's stride counts.
  r.outer_stride = t.rank == 3 && !nested && t.size(1) > 1 ? t.stride(1) : t.stride(0);
  return r;
}

}  // namespace forja::cuda
