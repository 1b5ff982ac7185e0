// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/embedding.h"

#include "csrc/ops/cpu/embedding.h"
#include "csrc/ops/cuda/embedding.h"
#include "csrc/ops/dispatch.h"

namespace forja {
namespace {

void check_table(const char* op, const char* name, const Tensor& table, const Tensor& like) {
  check_rank(op, name, table, 2);
  check_dtype(op, name, table, like.dtype);
  check_last_dim_contiguous(op, name, table);
  FORJA_CHECK(table.size(1) == like.size(1), "{}: {} must have {} columns, found {}", op, name,
              like.size(1), table.to_string());
}

void check_indices(const char* op, const char* name, const Tensor& indices, int64_t count) {
  check_dtype(op, name, indices, DType::i32);
  check_shape(op, name, indices, {count});
  check_contiguous(op, name, indices);
}

// rows [N, H] beside the table that they come from.
void check_lookup(const char* op, const Tensor& ids, const Tensor& table, const Tensor& rows) {
  check_float(op, "out", rows);
  check_rank(op, "out", rows, 2);
  check_last_dim_contiguous(op, "out", rows);
  check_table(op, "table", table, rows);
  check_indices(op, "ids", ids, rows.size(0));
}

}  // namespace

void embedding_forward(const Context& ctx, const Tensor& ids, const Tensor& table,
                       int64_t first_row, int64_t total_rows, const Tensor& out) {
  check_lookup("embedding_forward", ids, table, out);
  if (!ctx.device.is_cpu()) return cuda::embedding_forward(ctx, ids, table, first_row, out);
  if (ctx.planning()) return;
  check_index_range("embedding_forward", "ids", ids, total_rows);
  cpu::embedding_forward(ids, table, first_row, out);
}

void embedding_add(const Context& ctx, const Tensor& ids, const Tensor& table, const Tensor& out) {
  check_lookup("embedding_add", ids, table, out);
  if (!ctx.device.is_cpu()) return cuda::embedding_add(ctx, ids, table, out);
  if (ctx.planning()) return;
  check_index_range("embedding_add", "ids", ids, table.size(0));
  cpu::embedding_add(ids, table, out);
}

void embedding_backward(const Context& ctx, const Tensor& dout, const Tensor& ids,
                        int64_t first_row, int64_t total_rows, const Tensor& table_gradient) {
  constexpr const char* kOp = "embedding_backward";
  check_float(kOp, "dout", dout);
  check_rank(kOp, "dout", dout, 2);
  check_last_dim_contiguous(kOp, "dout", dout);
  check_indices(kOp, "ids", ids, dout.size(0));
  check_dtype(kOp, "table_gradient", table_gradient, DType::f32);
  check_rank(kOp, "table_gradient", table_gradient, 2);
  check_last_dim_contiguous(kOp, "table_gradient", table_gradient);
  FORJA_CHECK(table_gradient.size(1) == dout.size(1), "{}: {} beside rows of {}", kOp,
              table_gradient.to_string(), dout.to_string());
  if (!ctx.device.is_cpu()) {
    return cuda::embedding_backward(ctx, dout, ids, first_row, table_gradient);
  }
  if (ctx.planning()) return;
  check_index_range(kOp, "ids", ids, total_rows);
  cpu::embedding_backward(dout, ids, first_row, table_gradient);
}

}  // namespace forja
