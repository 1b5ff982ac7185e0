// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/dropout.h"

#include "csrc/ops/cpu/dropout.h"
#include "csrc/ops/cuda/elementwise.h"
#include "csrc/ops/dispatch.h"

namespace forja {

void dropout(const Context& ctx, const Tensor& x, const Tensor& y, float probability, uint64_t key,
             const ElementMap& elements) {
  check_float("dropout", "x", x);
  check_contiguous("dropout", "x", x);
  check_same("dropout", "y", y, x);
  check_contiguous("dropout", "y", y);
  FORJA_CHECK(probability >= 0 && probability < 1,
              "dropout: the probability must be in [0, 1), found {}", probability);
  FORJA_CHECK(elements.first >= 0, "dropout: the first element {} is negative", elements.first);
  if (!ctx.device.is_cpu()) return cuda::dropout(ctx, x, y, probability, key, elements);
  if (ctx.planning()) return;
  cpu::dropout(x, y, probability, key, elements);
}

}  // namespace forja
