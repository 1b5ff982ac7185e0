// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/describe_memory.h"

#include <fmt/core.h>

#include "forja/base/text.h"

namespace forja {

std::string describe_memory(const MemoryPlan& p) {
  std::string out =
      fmt::format("weights {}, gradients {}, optimizer {}, activations {}, workspace {}",
                  format_bytes(double(p.weights)), format_bytes(double(p.gradients)),
                  format_bytes(double(p.optimizer)), format_bytes(double(p.activations())),
                  format_bytes(double(p.inputs + p.workspace)));
  if (p.snapshot > 0) out += fmt::format(", snapshot {}", format_bytes(double(p.snapshot)));
  return out;
}

}  // namespace forja
