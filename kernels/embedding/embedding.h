// SPDX-License-Identifier: Apache-2.0
// Rows of a table by index, both ways (ops/embedding.h). A kernel cannot throw: indices outside of
// the table give zeros, add nothing and get nothing. Pointers are the device's; everything is
// asynchronous.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"
#include "kernels/common/rows.h"
#include "kernels/common/stream.h"

namespace forja::kernels {

// Row id - first_row of the table is looked up for ids[n], of `count`.
struct Lookup {
  const int32_t* ids = nullptr;
  int64_t count = 0, columns = 0;
  int64_t first_row = 0, table_rows = 0;
};

enum class LookupMode { copy, add };  // out = row, out += row

void embedding_lookup(LookupMode mode, const Lookup& lookup, const Rows& table, const Rows& out,
                      DType dtype, KernelStream stream);

// table_gradient (fp32) += the rows of dout, each element in the order of n.
// scratch: four arrays of `count` int32.
void embedding_backward(const Lookup& lookup, const Rows& dout, DType dtype,
                        const Rows& table_gradient, int32_t* scratch, KernelStream stream);

}  // namespace forja::kernels
