// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/launch.h"

#include "kernels/common/fail_launch.h"

namespace forja {

#ifdef __CUDACC__

namespace {

void check(cudaError_t result, const char* what, const char* kernel) {
  if (result != cudaSuccess) fail_launch(what, kernel, cudaGetErrorString(result));
}

int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "device", "none");
  check(cudaDeviceGetAttribute(&value, attribute, device), "attribute", "none");
  return value;
}

}  // namespace

int compute_capability() {
  return device_attribute(cudaDevAttrComputeCapabilityMajor) * 10 +
         device_attribute(cudaDevAttrComputeCapabilityMinor);
}

int num_multiprocessors() { return device_attribute(cudaDevAttrMultiProcessorCount); }

namespace internal {

void launch_kernel(const LaunchShape& shape, KernelStream stream, const void* kernel,
                   void** arguments) {
  if (shape.shared_bytes > (48 << 10)) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               int(shape.shared_bytes)),
          "shared memory", shape.name);
  }
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = size_t(shape.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  if (shape.cluster > 1) {
    cudaLaunchAttribute& a = attributes[config.numAttrs++];
    a.id = cudaLaunchAttributeClusterDimension;
    a.val.clusterDim.x = unsigned(shape.cluster);
    a.val.clusterDim.y = a.val.clusterDim.z = 1;
  }
  if (shape.blocks_wait) {
    cudaLaunchAttribute& a = attributes[config.numAttrs++];
    a.id = cudaLaunchAttributeCooperative;
    a.val.cooperative = 1;
  }
  check(cudaLaunchKernelExC(&config, kernel, arguments), "launch", shape.name);
}

}  // namespace internal

#else

int compute_capability() { return emulator::compute_capability(); }
int num_multiprocessors() { return 3; }  // few, so that persistent kernels loop

#endif

}  // namespace forja
