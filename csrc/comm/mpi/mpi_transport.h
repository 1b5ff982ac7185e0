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

// The largest message: MPI counts are ints.
inline constexpr int64_t kMpiMessageBytes = int64_t(1) << 28;

// The group of `comm`, which must return errors (MPI_ERRORS_RETURN) and is not owned. Every rank
// has the same `message_bytes`, a multiple of 8 up to kMpiMessageBytes; tests make it small. All
// calls but these constructors are made on the communication thread.
std::unique_ptr<Transport> make_mpi_transport(MPI_Comm comm,
                                              int64_t message_bytes = kMpiMessageBytes);

}  // namespace forja
