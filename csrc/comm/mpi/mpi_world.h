// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "forja/comm/world.h"

namespace forja {

// MPI_Init and the communicator of all ranks; MPI_Finalize when the object goes.
std::unique_ptr<World> start_mpi_world(const std::string& launcher);

}  // namespace forja
