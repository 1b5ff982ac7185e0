// SPDX-License-Identifier: Apache-2.0
// NCCL for ranks that are threads of one process with emulated GPUs: the same functions, with its
// order of calls, its rendezvous, its asynchrony and its errors. Reductions are in rank order.
#pragma once

#include "csrc/comm/nccl/nccl_api.h"

namespace forja::testing {

// A library of version `version`.
nccl::Library fake_nccl(int version = 22803);

// From now on, communicators of `rank` of the world that began last report a remote error, as NCCL
// does when it notices that a peer is gone.
void break_fake_nccl(int rank);

}  // namespace forja::testing
