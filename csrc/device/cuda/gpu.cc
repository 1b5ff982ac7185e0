// SPDX-License-Identifier: Apache-2.0
#include "forja/device/gpu.h"

#include <cuda.h>
#include <dlfcn.h>

#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

// The few driver functions that a survey needs, from libcuda.so.1.
class Driver {
 public:
  Driver() : library_(::dlopen("libcuda.so.1", RTLD_NOW)) {
    if (!library_) return;
    load(init, "cuInit");
    load(driver_version, "cuDriverGetVersion");
    load(device_count, "cuDeviceGetCount");
    load(device_name, "cuDeviceGetName");
    load(total_memory, "cuDeviceTotalMem_v2");
    load(attribute, "cuDeviceGetAttribute");
  }
  ~Driver() {
    if (library_) ::dlclose(library_);
  }
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  bool loaded() const { return library_ != nullptr; }

  CUresult (*init)(unsigned) = nullptr;
  CUresult (*driver_version)(int*) = nullptr;
  CUresult (*device_count)(int*) = nullptr;
  CUresult (*device_name)(char*, int, CUdevice) = nullptr;
  CUresult (*total_memory)(size_t*, CUdevice) = nullptr;
  CUresult (*attribute)(int*, CUdevice_attribute, CUdevice) = nullptr;

 private:
  template <class Function>
  void load(Function& function, const char* name) {
    function = reinterpret_cast<Function>(::dlsym(library_, name));
    if (!function) fail("the CUDA driver has no {}", name);
  }

  void* library_;
};

std::string describe(const Driver& driver, int index) {
  char name[128] = "";
  size_t bytes = 0;
  int major = 0, minor = 0;
  driver.device_name(name, sizeof(name), index);
  driver.total_memory(&bytes, index);
  driver.attribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, index);
  driver.attribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, index);
  return fmt::format("{}: {}, {}, compute capability {}.{}", index, name,
                     format_bytes(double(bytes)), major, minor);
}

}  // namespace

GpuSurvey survey_gpus() {
  const Driver driver;
  if (!driver.loaded()) return {"none: no NVIDIA driver (libcuda.so.1) on this machine", {}};
  if (const CUresult result = driver.init(0); result != CUDA_SUCCESS) {
    return {fmt::format("none: the NVIDIA driver does not start (error {})", int(result)), {}};
  }
  int version = 0, count = 0;
  driver.driver_version(&version);
  driver.device_count(&count);
  GpuSurvey survey;
  survey.summary = fmt::format("{} GPU{}, driver for CUDA {}.{}", count, count == 1 ? "" : "s",
                               version / 1000, version % 1000 / 10);
  for (int i = 0; i < count; ++i) survey.gpus.push_back(describe(driver, i));
  return survey;
}

}  // namespace forja
