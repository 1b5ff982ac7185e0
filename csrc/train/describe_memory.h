// SPDX-License-Identifier: Apache-2.0
// A memory plan in a line.
#pragma once

#include <string>

#include "forja/train/engine.h"

namespace forja {

std::string describe_memory(const MemoryPlan& plan);

}  // namespace forja
