// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/dropout.h"

#include "csrc/ops/cpu/dropout.h"
#include "csrc/ops/cuda/elementwise.h"
#include "csrc/ops/dispatch.h"

namespace forja {

void dropout(const Context& ctx, const Tensor& x, const Tensor& y, float probability, uint64_t key,
             int64_t first_element) {
  check_float("dropout", "x", x);
  check_contiguous("dropout", "x", x);
  check_same("dropout", "y", y, x);
  check_contiguous("dropout", "y", y);
  FORJA_CHECK(probability >= 0 && probability < 1,
              "dropout: the probability must be in [0, 1), found {}", probability);
  FORJA_CHECK(first_element >= 0, "dropout: first_element {} is negative", first_element);
  if (!ctx.device.is_cpu()) return cuda::dropout(ctx, x, y, probability, key, first_element);
  if (ctx.planning()) return;
  cpu::dropout(x, y, probability, key, first_element);
}

}  // namespace forja
