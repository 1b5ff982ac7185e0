// SPDX-License-Identifier: Apache-2.0
// The stream that a launcher puts its kernel into; the type of the CUDA runtime, without its
// headers.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace forja {

using KernelStream = CUstream_st*;

}  // namespace forja
