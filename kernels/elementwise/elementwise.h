// SPDX-License-Identifier: Apache-2.0
// Simple passes over contiguous elements. Pointers are the device's; everything is asynchronous.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"
#include "forja/base/element_map.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

void fill(void* x, DType dtype, int64_t count, float value, KernelStream stream);
// out = in, rounded to out's dtype.
void convert(const void* in, DType in_dtype, void* out, DType out_dtype, int64_t count,
             KernelStream stream);
// out = a + b in fp32; each fp32 or bf16. out may be a or b.
void add(const void* a, DType a_dtype, const void* b, DType b_dtype, void* out, DType out_dtype,
         int64_t count, KernelStream stream);

// out = factor x, both of `dtype`. out may be x.
void scale(const void* x, float factor, void* out, DType dtype, int64_t count, KernelStream stream);

// first[0] = the index of the first element that is not finite, or kNoneFound.
inline constexpr int64_t kNoneFound = INT64_MAX;
void find_non_finite(const void* x, DType dtype, int64_t count, int64_t* first,
                     KernelStream stream);

// The numbers of ops/elementwise.h and ops/dropout.h.
void fill_normal(float* x, int64_t count, uint64_t key, int64_t first_element, float mean,
                 float std, KernelStream stream);
void dropout(const void* x, void* y, DType dtype, int64_t count, float probability, uint64_t key,
             const ElementMap& elements, KernelStream stream);

}  // namespace forja::kernels
