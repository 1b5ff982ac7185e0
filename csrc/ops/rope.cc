// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/rope.h"

#include "csrc/ops/cpu/rope.h"
#include "csrc/ops/cuda/rope.h"
#include "csrc/ops/dispatch.h"

namespace forja {

void rope(const Context& ctx, const Tensor& x, const Tensor& positions, const Tensor& cos,
          const Tensor& sin, RopeDirection direction) {
  check_float("rope", "x", x);
  check_rank("rope", "x", x, 3);
  check_last_dim_contiguous("rope", "x", x);
  FORJA_CHECK(x.size(2) % 2 == 0, "rope: the head size must be even, found x {}", x.to_string());
  check_dtype("rope", "positions", positions, DType::i32);
  check_shape("rope", "positions", positions, {x.size(0)});
  check_contiguous("rope", "positions", positions);
  check_rank("rope", "cos", cos, 2);
  for (const Tensor* table : {&cos, &sin}) {
    const char* name = table == &cos ? "cos" : "sin";
    check_dtype("rope", name, *table, DType::f32);
    check_shape("rope", name, *table, {cos.size(0), x.size(2) / 2});
    check_last_dim_contiguous("rope", name, *table);
  }
  if (!ctx.device.is_cpu()) return cuda::rope(ctx, x, positions, cos, sin, direction);
  if (ctx.planning()) return;
  check_index_range("rope", "positions", positions, cos.size(0));
  cpu::rope(x, positions, cos, sin, direction);
}

}  // namespace forja
