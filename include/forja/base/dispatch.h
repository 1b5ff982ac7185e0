// SPDX-License-Identifier: Apache-2.0
// The one dtype dispatcher: from a DType to a C++ type. Light enough for kernels.
#pragma once

#include "forja/base/dtype.h"

namespace forja {

[[noreturn]] void fail_not_float(DType dtype);

// Calls f.operator()<float>() or f.operator()<BFloat16>().
template <class F>
decltype(auto) dispatch_float(DType dtype, F&& f) {
  if (dtype == DType::bf16) return f.template operator()<BFloat16>();
  if (dtype != DType::f32) fail_not_float(dtype);
  return f.template operator()<float>();
}

}  // namespace forja
