// SPDX-License-Identifier: Apache-2.0
#include "forja/device/profiler_range.h"

#include <nvtx3/nvToolsExt.h>

namespace forja {

ProfilerRange::ProfilerRange(const char* name) { nvtxRangePushA(name); }
ProfilerRange::~ProfilerRange() { nvtxRangePop(); }

}  // namespace forja
