// SPDX-License-Identifier: Apache-2.0
// Memory, streams and events of GPUs. A build without CUDA has them too: every call there fails and
// says so. The calling thread's current GPU is set by each call that names a device.
#pragma once

#include <cstdint>
#include <string>

#include "forja/device/device.h"

struct CUstream_st;
struct CUevent_st;

namespace forja {

// 0 where there is no driver, or none that works with this build; why, in words, for messages.
int num_gpus();
std::string why_no_gpus();
// What fits on `device` now, and all that it has.
struct GpuMemory {
  int64_t free_bytes = 0, total_bytes = 0;
};
GpuMemory gpu_memory(Device device);
std::string gpu_name(Device device);  // "NVIDIA H200"
// 90 for compute capability 9.0.
int gpu_compute_capability(Device device);

// Uninitialised, aligned to 256 bytes. Throws, naming `what`, when there is not enough.
void* gpu_allocate(Device device, int64_t bytes, const std::string& what);
void gpu_free(void* memory) noexcept;
// Keeps host memory in place, so that copies to and from a GPU need not stage it, until unpin_host.
void pin_host(void* memory, int64_t bytes);
void unpin_host(void* memory) noexcept;

// Blocks until all work given to `stream` so far is done; throws what went wrong in it.
void gpu_synchronize(CUstream_st* stream);

// Work in the order in which it was given. Owns the stream.
class GpuStream {
 public:
  explicit GpuStream(Device device);
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;
  ~GpuStream();

  CUstream_st* handle() const { return stream_; }
  void synchronize() const { gpu_synchronize(stream_); }

 private:
  CUstream_st* stream_ = nullptr;
};

// A point in a stream.
class GpuEvent {
 public:
  GpuEvent();
  GpuEvent(const GpuEvent&) = delete;
  GpuEvent& operator=(const GpuEvent&) = delete;
  ~GpuEvent();

  void record(CUstream_st* stream);
  // Later work of `stream` begins after the recorded point.
  void make_wait(CUstream_st* stream) const;
  bool done() const;
  void synchronize() const;
  // Seconds from `begin` to this; both recorded and done.
  double seconds_since(const GpuEvent& begin) const;

 private:
  CUevent_st* event_ = nullptr;
};

// Asynchronous where the host's side is pinned. Any direction.
void gpu_copy(void* to, const void* from, int64_t bytes, CUstream_st* stream);
void gpu_fill_bytes(void* memory, uint8_t value, int64_t bytes, CUstream_st* stream);

}  // namespace forja
