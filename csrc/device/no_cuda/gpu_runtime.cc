// SPDX-License-Identifier: Apache-2.0
#include "forja/device/gpu_runtime.h"

#include "forja/base/error.h"

namespace forja {
namespace {

[[noreturn]] void no_cuda() { fail_input("this build of Forja has no CUDA"); }

}  // namespace

int num_gpus() { return 0; }
std::string why_no_gpus() { return "this build has no CUDA"; }
GpuMemory gpu_memory(Device) { no_cuda(); }
std::string gpu_name(Device) { no_cuda(); }
int gpu_compute_capability(Device) { no_cuda(); }
void* gpu_allocate(Device, int64_t, const std::string&) { no_cuda(); }
void gpu_free(void*) noexcept {}
void pin_host(void*, int64_t) { no_cuda(); }
void unpin_host(void*) noexcept {}
void gpu_synchronize(CUstream_st*) { no_cuda(); }
GpuStream::GpuStream(Device) { no_cuda(); }
GpuStream::~GpuStream() = default;
GpuEvent::GpuEvent() { no_cuda(); }
GpuEvent::~GpuEvent() = default;
void GpuEvent::record(CUstream_st*) {}
void GpuEvent::make_wait(CUstream_st*) const {}
bool GpuEvent::done() const { return true; }
void GpuEvent::synchronize() const {}
double GpuEvent::seconds_since(const GpuEvent&) const { return 0.0; }
void gpu_copy(void*, const void*, int64_t, CUstream_st*) { no_cuda(); }
void gpu_fill_bytes(void*, uint8_t, int64_t, CUstream_st*) { no_cuda(); }

}  // namespace forja
