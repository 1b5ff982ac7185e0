// SPDX-License-Identifier: Apache-2.0
// Which GPUs are here. The driver is loaded when first asked: the binary starts on machines without
// one.
#pragma once

#include <string>
#include <vector>

namespace forja {

struct GpuSurvey {
  std::string summary;            // "2 GPUs, driver 13.0", or why there is none
  std::vector<std::string> gpus;  // "0: NVIDIA H100, 64.00 GiB, compute capability 9.0"
};

GpuSurvey survey_gpus();

}  // namespace forja
