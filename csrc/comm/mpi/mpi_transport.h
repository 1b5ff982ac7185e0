// SPDX-License-Identifier: Apache-2.0
// MPI over host memory.
#pragma once

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <memory>

#include "csrc/comm/transport.h"

namespace forja {

// Throws with MPI's own words when `result` is not MPI_SUCCESS.
void check_mpi(int result, const char* call);

std::unique_ptr<Transport> make_mpi_transport(MPI_Comm comm);

}  // namespace forja
