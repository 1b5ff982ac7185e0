// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "forja/comm/communicator.h"

namespace forja {

// `inner` moves host memory; this copies tensors of a GPU to host memory before a call, which waits
// for the stream, and back in the wait for its event. Host tensors pass through.
std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> inner);

}  // namespace forja
