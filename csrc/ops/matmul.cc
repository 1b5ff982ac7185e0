// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/matmul.h"

#include "csrc/ops/cpu/matmul.h"
#include "csrc/ops/cuda/matmul.h"
#include "csrc/ops/dispatch.h"

namespace forja {
namespace {

void check_matrix(const char* name, const Tensor& t) {
  check_float("matmul", name, t);
  check_rank("matmul", name, t, 2);
  const bool row_major = t.size(1) <= 1 || t.stride(1) == 1;
  const bool column_major = t.size(0) <= 1 || t.stride(0) == 1;
  FORJA_CHECK(row_major || column_major, "matmul: one stride of {} must be 1, found {}", name,
              t.to_string());
}

void check_product(const Tensor& a, const Tensor& b, const Tensor& c, MatmulOutput output,
                   const Tensor& bias) {
  check_matrix("a", a);
  check_matrix("b", b);
  FORJA_CHECK(a.dtype == b.dtype && a.size(1) == b.size(0), "matmul: a {} and b {} do not fit",
              a.to_string(), b.to_string());
  check_float32_or("matmul", "c", c, a.dtype);
  check_shape("matmul", "c", c, {a.size(0), b.size(1)});
  check_last_dim_contiguous("matmul", "c", c);
  if (bias.defined()) {
    FORJA_CHECK(output == MatmulOutput::overwrite,
                "matmul: a bias goes only with MatmulOutput::overwrite");
    check_float32_or("matmul", "bias", bias, a.dtype);
    check_shape("matmul", "bias", bias, {c.size(1)});
    check_contiguous("matmul", "bias", bias);
  }
}

// y [M, columns] beside c.
void check_activation(const Tensor& c, const Tensor& y, int64_t columns) {
  check_shape("matmul", "y", y, {c.size(0), columns});
  check_dtype("matmul", "y", y, c.dtype);
  check_last_dim_contiguous("matmul", "y", y);
}

bool is_empty(const Tensor& c) { return c.size(0) == 0 || c.size(1) == 0; }

}  // namespace

void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
            MatmulOutput output, const Tensor& bias) {
  check_product(a, b, c, output, bias);
  if (is_empty(c)) return;
  if (!ctx.device.is_cpu()) return cuda::matmul(ctx, a, b, c, output, bias);
  cpu::matmul(ctx, a, b, c, output, bias);
}

void matmul_gelu(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                 const Tensor& y, GeluKind kind, const Tensor& bias) {
  check_product(a, b, c, MatmulOutput::overwrite, bias);
  check_activation(c, y, c.size(1));
  if (is_empty(c)) return;
  if (!ctx.device.is_cpu()) return cuda::matmul_gelu(ctx, a, b, c, y, kind, bias);
  cpu::matmul(ctx, a, b, c, MatmulOutput::overwrite, bias);
  gelu_forward(ctx, c, y, kind);
}

void matmul_swiglu(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& gate_up,
                   const Tensor& y, const Tensor& bias) {
  check_product(a, b, gate_up, MatmulOutput::overwrite, bias);
  FORJA_CHECK(gate_up.size(1) % 2 == 0, "matmul: gate_up {} has no two halves",
              gate_up.to_string());
  check_activation(gate_up, y, gate_up.size(1) / 2);
  if (is_empty(gate_up)) return;
  if (!ctx.device.is_cpu()) return cuda::matmul_swiglu(ctx, a, b, gate_up, y, bias);
  cpu::matmul(ctx, a, b, gate_up, MatmulOutput::overwrite, bias);
  swiglu_forward(ctx, gate_up, y);
}

}  // namespace forja
