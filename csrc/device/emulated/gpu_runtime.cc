// SPDX-License-Identifier: Apache-2.0
// A GPU whose memory is the host's and whose streams do everything at once.
#include "forja/device/gpu_runtime.h"

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "forja/base/error.h"
#include "forja/device/cpu_topology.h"
#include "forja/device/gpu.h"
#include "kernels/common/launch.h"

struct CUevent_st {
  std::chrono::steady_clock::time_point at;
};

namespace forja {

int num_gpus() { return 1; }
std::string why_no_gpus() { return "the emulated GPU is always there"; }
GpuMemory gpu_memory(Device) { return {host_memory_bytes(), host_memory_bytes()}; }
std::string gpu_name(Device) { return "emulated GPU"; }
int gpu_compute_capability(Device) { return compute_capability(); }
GpuSurvey survey_gpus() { return {"1 emulated GPU", {"0: emulated"}}; }

void* gpu_allocate(Device, int64_t bytes, const std::string& what) {
  const size_t size = size_t(bytes + 255) / 256 * 256;
  void* memory = std::aligned_alloc(256, size);
  if (!memory) fail("not enough memory for {}", what);
  std::memset(memory, 0xff, size);
  return memory;
}
void gpu_free(void* memory) noexcept { std::free(memory); }
void pin_host(void*, int64_t) {}
void unpin_host(void*) noexcept {}
void gpu_synchronize(CUstream_st*) {}

// A stream is known by its address alone.
GpuStream::GpuStream(Device) : stream_(reinterpret_cast<CUstream_st*>(this)) {}
GpuStream::~GpuStream() = default;

GpuEvent::GpuEvent() : event_(new CUevent_st) {}
GpuEvent::~GpuEvent() { delete event_; }
void GpuEvent::record(CUstream_st*) { event_->at = std::chrono::steady_clock::now(); }
void GpuEvent::make_wait(CUstream_st*) const {}
bool GpuEvent::done() const { return true; }
void GpuEvent::synchronize() const {}
double GpuEvent::seconds_since(const GpuEvent& begin) const {
  return std::chrono::duration<double>(event_->at - begin.event_->at).count();
}

void gpu_copy(void* to, const void* from, int64_t bytes, CUstream_st*) {
  std::memmove(to, from, size_t(bytes));
}
void gpu_fill_bytes(void* memory, uint8_t value, int64_t bytes, CUstream_st*) {
  std::memset(memory, value, size_t(bytes));
}

}  // namespace forja
