// SPDX-License-Identifier: Apache-2.0
// What every op's front half shares: the choice of the device, checks of shapes.
#pragma once

#include <initializer_list>

#include "forja/base/dispatch.h"
#include "forja/base/error.h"
#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

// Throws where the context's device is not the CPU: this build has no other version of `op`.
void require_cpu(const Context& ctx, const char* op);

// Each throws with the op, the name of the argument and its dtype and shape.
void check_float(const char* op, const char* name, const Tensor& t);  // fp32 or bf16
void check_dtype(const char* op, const char* name, const Tensor& t, DType dtype);
void check_float32_or(const char* op, const char* name, const Tensor& t, DType dtype);
void check_shape(const char* op, const char* name, const Tensor& t,
                 std::initializer_list<int64_t> shape);
void check_rank(const char* op, const char* name, const Tensor& t, int rank);
void check_contiguous(const char* op, const char* name, const Tensor& t);
void check_last_dim_contiguous(const char* op, const char* name, const Tensor& t);
// Every element of an int32 tensor in [0, limit); reads the data.
void check_index_range(const char* op, const char* name, const Tensor& indices, int64_t limit);
// Same sizes and dtype, last dim contiguous.
void check_same(const char* op, const char* name, const Tensor& t, const Tensor& like);

}  // namespace forja
