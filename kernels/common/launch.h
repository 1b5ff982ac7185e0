// SPDX-License-Identifier: Apache-2.0
// How launchers start kernels: on a GPU's stream, or under the emulator.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/common/kernel.cuh"
#include "kernels/common/stream.h"

namespace forja {

struct LaunchShape {
  const char* name;  // of the kernel, for messages
  dim3 grid, block;
  int64_t shared_bytes = 0;
  int cluster = 1;           // blocks along x
  bool blocks_wait = false;  // for each other: all of them must be resident
};

// 80 for compute capability 8.0, 90 for 9.0: of the current device.
int compute_capability();
int num_multiprocessors();

// Starts kernel(arguments...). Asynchronous; throws Error when it cannot be started. Nothing is
// started for an empty grid.
template <class... P, class... A>
void launch(const LaunchShape& shape, KernelStream stream, void (*kernel)(P...), A&&... arguments);

#ifdef __CUDACC__

namespace internal {
void launch_kernel(const LaunchShape& shape, KernelStream stream, const void* kernel,
                   void** arguments);
}

template <class... P, class... A>
void launch(const LaunchShape& shape, KernelStream stream, void (*kernel)(P...), A&&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  [&](P... values) {
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&values))...};
    internal::launch_kernel(shape, stream, reinterpret_cast<const void*>(kernel), pointers);
  }(std::forward<A>(arguments)...);
}

#else

template <class... P, class... A>
void launch(const LaunchShape& shape, KernelStream stream, void (*kernel)(P...), A&&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  [&](P... values) {
    emulator::run_in_stream(
        stream, shape.name,
        {shape.grid, shape.block, shape.shared_bytes, shape.cluster, shape.blocks_wait},
        [kernel, values...] { kernel(values...); });
  }(std::forward<A>(arguments)...);
}

#endif

}  // namespace forja
