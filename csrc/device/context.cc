// SPDX-License-Identifier: Apache-2.0
#include "forja/device/context.h"

#include <cstring>

#include "forja/device/gpu_runtime.h"

namespace forja {

void copy_bytes(const Context& ctx, void* to, const void* from, int64_t bytes) {
  if (ctx.planning() || bytes == 0 || to == from) return;
  if (ctx.device.is_cpu()) {
    std::memcpy(to, from, size_t(bytes));
  } else {
    gpu_copy(to, from, bytes, ctx.stream);
  }
}

void synchronize(const Context& ctx) {
  if (!ctx.device.is_cpu() && !ctx.planning()) gpu_synchronize(ctx.stream);
}

}  // namespace forja
