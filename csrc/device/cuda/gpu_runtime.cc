// SPDX-License-Identifier: Apache-2.0
#include "forja/device/gpu_runtime.h"

#include <cuda_runtime.h>

#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

void check(cudaError_t result, const char* what) {
  if (result != cudaSuccess)
    fail("{}: {} ({})", what, cudaGetErrorString(result), cudaGetErrorName(result));
}

void use(Device device) { check(cudaSetDevice(device.index), "choosing a GPU"); }

}  // namespace

int num_gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

std::string why_no_gpus() {
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  return result == cudaSuccess ? "the driver shows none" : cudaGetErrorString(result);
}

GpuMemory gpu_memory(Device device) {
  use(device);
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for the memory of the GPU");
  return {int64_t(free), int64_t(total)};
}

std::string gpu_name(Device device) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device.index), "GPU");
  return properties.name;
}

int gpu_compute_capability(Device device) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index), "GPU");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.index), "GPU");
  return 10 * major + minor;
}

void* gpu_allocate(Device device, int64_t bytes, const std::string& what) {
  use(device);
  void* memory = nullptr;
  const cudaError_t result = cudaMalloc(&memory, size_t(bytes));
  if (result == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    const GpuMemory there = gpu_memory(device);
    fail("not enough memory on GPU {} for {}: {} wanted, {} of {} free", int(device.index), what,
         format_bytes(double(bytes)), format_bytes(double(there.free_bytes)),
         format_bytes(double(there.total_bytes)));
  }
  check(result, "memory of the GPU");
  return memory;
}

void gpu_free(void* memory) noexcept { cudaFree(memory); }

void pin_host(void* memory, int64_t bytes) {
  check(cudaHostRegister(memory, size_t(bytes), cudaHostRegisterDefault), "pinning host memory");
}

void unpin_host(void* memory) noexcept { cudaHostUnregister(memory); }

void gpu_synchronize(CUstream_st* stream) {
  check(cudaStreamSynchronize(stream), "work on the GPU");
}

GpuStream::GpuStream(Device device) {
  use(device);
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
}
GpuStream::~GpuStream() { cudaStreamDestroy(stream_); }

GpuEvent::GpuEvent() { check(cudaEventCreate(&event_), "an event"); }
GpuEvent::~GpuEvent() { cudaEventDestroy(event_); }
void GpuEvent::record(CUstream_st* stream) { check(cudaEventRecord(event_, stream), "an event"); }
void GpuEvent::make_wait(CUstream_st* stream) const {
  check(cudaStreamWaitEvent(stream, event_, 0), "waiting for an event");
}
bool GpuEvent::done() const {
  const cudaError_t result = cudaEventQuery(event_);
  if (result != cudaErrorNotReady) check(result, "work on the GPU");
  return result == cudaSuccess;
}
void GpuEvent::synchronize() const { check(cudaEventSynchronize(event_), "work on the GPU"); }
double GpuEvent::seconds_since(const GpuEvent& begin) const {
  float milliseconds = 0.0f;
  check(cudaEventElapsedTime(&milliseconds, begin.event_, event_), "timing");
  return double(milliseconds) * 1e-3;
}

void gpu_copy(void* to, const void* from, int64_t bytes, CUstream_st* stream) {
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDefault, stream), "a copy");
}

void gpu_fill_bytes(void* memory, uint8_t value, int64_t bytes, CUstream_st* stream) {
  check(cudaMemsetAsync(memory, value, size_t(bytes), stream), "filling memory");
}

}  // namespace forja
