// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "forja/base/error.h"
#include "forja/comm/world.h"

namespace forja {

// Runs a command on every rank of the launch, alone where there is none: binds this rank's threads
// to its cores, and ends all ranks where one fails. Throws an Error without a message for an exit
// code that has been told.
void run_on_ranks(const std::function<ExitCode(World&)>& body);

}  // namespace forja
