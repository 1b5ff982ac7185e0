// SPDX-License-Identifier: Apache-2.0
// Simple passes over contiguous elements. Pointers are the device's; everything is asynchronous.
#pragma once

#include "forja/base/dtype.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

void fill(void* x, DType dtype, int64_t count, float value, KernelStream stream);
// out = in, rounded to out's dtype.
void convert(const void* in, DType in_dtype, void* out, DType out_dtype, int64_t count,
             KernelStream stream);
// out = a + b in fp32; each fp32 or bf16. out may be a or b.
void add(const void* a, DType a_dtype, const void* b, DType b_dtype, void* out, DType out_dtype,
         int64_t count, KernelStream stream);

}  // namespace forja::kernels
