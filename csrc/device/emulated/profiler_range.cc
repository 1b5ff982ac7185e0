// SPDX-License-Identifier: Apache-2.0
#include "forja/device/profiler_range.h"

namespace forja {

ProfilerRange::ProfilerRange(const char*) {}
ProfilerRange::~ProfilerRange() = default;

}  // namespace forja
