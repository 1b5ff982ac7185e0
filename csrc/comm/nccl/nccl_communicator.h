// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "csrc/comm/nccl/nccl_api.h"
#include "forja/comm/communicator.h"

namespace forja {

// make_nccl_communicator() with the library `found`.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Device device,
                                                     const std::string& host_name,
                                                     const nccl::Library& found);

}  // namespace forja
