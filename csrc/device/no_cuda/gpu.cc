// SPDX-License-Identifier: Apache-2.0
#include "forja/device/gpu.h"

namespace forja {

GpuSurvey survey_gpus() { return {"none: built without CUDA", {}}; }

}  // namespace forja
