// SPDX-License-Identifier: Apache-2.0
// What an op needs besides its tensors. Passed, never global; one per rank (thread).
#pragma once

#include <cstdint>

#include "forja/device/arena.h"
#include "forja/device/device.h"

struct CUstream_st;

namespace forja {

// Whose matrix products a GPU runs.
enum class GpuMatmul : uint8_t {
  automatic,  // the library's where it is found, or what matmul_choices says
  cublaslt,   // and kernels/matmul for what it has no algorithm for
  custom,     // kernels/matmul
};

class MatmulChoices;

struct Context {
  Device device;
  Arena* workspace = nullptr;  // scratch of ops and layers, used as a stack (ArenaScope); not owned
  CUstream_st* stream = nullptr;  // of a GPU, where ops are asynchronous; not owned
  GpuMatmul gpu_matmul = GpuMatmul::automatic;
  // Of a GPU's run, or nullptr: ops/matmul_choices.h; not owned. A planning run adds to it.
  MatmulChoices* matmul_choices = nullptr;
  // A planning run: ops check their arguments and take their scratch, then return without touching
  // data.
  bool planning() const { return workspace->planning(); }
};

// Copies between memory of the context's device, or the host, in the order of its stream: host
// memory may be read, or changed again, after synchronize(). Nothing in a planning run.
void copy_bytes(const Context& ctx, void* to, const void* from, int64_t bytes);
// Waits for all work given to the context's stream; nothing to do on the CPU.
void synchronize(const Context& ctx);

}  // namespace forja
