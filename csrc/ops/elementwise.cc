// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/elementwise.h"

#include <cstring>

#include "csrc/ops/cpu/elementwise.h"
#include "csrc/ops/cuda/elementwise.h"
#include "csrc/ops/dispatch.h"

namespace forja {

void fill_zero(const Context& ctx, const Tensor& x) {
  check_contiguous("fill_zero", "x", x);
  if (!ctx.device.is_cpu()) return cuda::fill_zero(ctx, x);
  if (ctx.planning()) return;
  cpu::fill_zero(x);
}

void convert(const Context& ctx, const Tensor& in, const Tensor& out) {
  check_float("convert", "in", in);
  check_float("convert", "out", out);
  check_contiguous("convert", "in", in);
  check_contiguous("convert", "out", out);
  FORJA_CHECK(in.num_elements() == out.num_elements(), "convert: {} has not as many elements as {}",
              in.to_string(), out.to_string());
  if (!ctx.device.is_cpu()) return cuda::convert(ctx, in, out);
  if (ctx.planning()) return;
  cpu::convert(in, out);
}

void add(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& out) {
  const std::pair<const char*, const Tensor*> arguments[] = {{"a", &a}, {"b", &b}, {"out", &out}};
  for (const auto& [name, t] : arguments) {
    check_float("add", name, *t);
    check_contiguous("add", name, *t);
    FORJA_CHECK(t->num_elements() == out.num_elements(),
                "add: {} {} has not as many elements as out {}", name, t->to_string(),
                out.to_string());
  }
  if (!ctx.device.is_cpu()) return cuda::add(ctx, a, b, out);
  if (ctx.planning()) return;
  cpu::add(a, b, out);
}

void scale(const Context& ctx, const Tensor& x, float factor, const Tensor& out) {
  check_float("scale", "x", x);
  check_contiguous("scale", "x", x);
  check_same("scale", "out", out, x);
  check_contiguous("scale", "out", out);
  if (!ctx.device.is_cpu()) return cuda::scale(ctx, x, factor, out);
  if (ctx.planning()) return;
  cpu::scale(x, factor, out);
}

void bias_gradient(const Context& ctx, const Tensor& dy, const Tensor& bias_gradient) {
  check_float("bias_gradient", "dy", dy);
  check_rank("bias_gradient", "dy", dy, 2);
  check_last_dim_contiguous("bias_gradient", "dy", dy);
  check_dtype("bias_gradient", "bias_gradient", bias_gradient, DType::f32);
  check_shape("bias_gradient", "bias_gradient", bias_gradient, {dy.size(1)});
  check_contiguous("bias_gradient", "bias_gradient", bias_gradient);
  if (!ctx.device.is_cpu()) return cuda::bias_gradient(ctx, dy, bias_gradient);
  ArenaScope scope(*ctx.workspace);
  const Tensor partial =
      allocate(*ctx.workspace, DType::f32, {cpu::row_blocks(dy.size(0)), dy.size(1)});
  if (ctx.planning()) return;
  cpu::bias_gradient(dy, bias_gradient, partial);
}

int64_t find_non_finite(const Context& ctx, const Tensor& x) {
  check_float("find_non_finite", "x", x);
  check_contiguous("find_non_finite", "x", x);
  if (!ctx.device.is_cpu()) return cuda::find_non_finite(ctx, x);
  if (ctx.planning()) return -1;
  return cpu::find_non_finite(x);
}

void fill_normal(const Context& ctx, const Tensor& x, uint64_t key, int64_t first_element,
                 float mean, float std) {
  check_dtype("fill_normal", "x", x, DType::f32);
  check_contiguous("fill_normal", "x", x);
  FORJA_CHECK(first_element >= 0, "fill_normal: first_element {} is negative", first_element);
  if (!ctx.device.is_cpu()) return cuda::fill_normal(ctx, x, key, first_element, mean, std);
  if (ctx.planning()) return;
  cpu::fill_normal(x, key, first_element, mean, std);
}

void fill_value(const Context& ctx, const Tensor& x, float value) {
  check_float("fill_value", "x", x);
  check_contiguous("fill_value", "x", x);
  if (!ctx.device.is_cpu()) return cuda::fill_value(ctx, x, value);
  if (ctx.planning()) return;
  cpu::fill_value(x, value);
}

}  // namespace forja
