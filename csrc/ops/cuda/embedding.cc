// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/embedding.h"

#include "csrc/ops/cuda/arguments.h"
#include "kernels/embedding/embedding.h"

namespace forja::cuda {
namespace {

kernels::Lookup lookup_of(const Context& ctx, const Tensor& ids, const Tensor& table,
                          int64_t first_row) {
  return {typed<int32_t>(ctx, ids), ids.num_elements(), table.size(1), first_row, table.size(0)};
}

}  // namespace

void embedding_forward(const Context& ctx, const Tensor& ids, const Tensor& table,
                       int64_t first_row, const Tensor& out) {
  if (ctx.planning()) return;
  kernels::embedding_lookup(kernels::LookupMode::copy, lookup_of(ctx, ids, table, first_row),
                            rows(ctx, table), rows(ctx, out), out.dtype, ctx.stream);
}

void embedding_add(const Context& ctx, const Tensor& ids, const Tensor& table, const Tensor& out) {
  if (ctx.planning()) return;
  kernels::embedding_lookup(kernels::LookupMode::add, lookup_of(ctx, ids, table, 0),
                            rows(ctx, table), rows(ctx, out), out.dtype, ctx.stream);
}

void embedding_backward(const Context& ctx, const Tensor& dout, const Tensor& ids,
                        int64_t first_row, const Tensor& table_gradient) {
  ArenaScope scope(*ctx.workspace);
  const Tensor scratch = allocate(*ctx.workspace, DType::i32, {4, ids.num_elements()});
  if (ctx.planning()) return;
  kernels::embedding_backward(lookup_of(ctx, ids, table_gradient, first_row), rows(ctx, dout),
                              dout.dtype, rows(ctx, table_gradient), typed<int32_t>(ctx, scratch),
                              ctx.stream);
}

}  // namespace forja::cuda
