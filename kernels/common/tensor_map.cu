// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/tensor_map.h"

#include "kernels/common/fail_launch.h"

#ifdef __CUDACC__
#include <cuda.h>
#include <cuda_runtime.h>
#endif

namespace forja {
namespace {

constexpr int kMaxRank = 5;

// What is wrong with the arguments, or nullptr.
const char* find_fault(const void* data, int64_t element_bytes,
                       std::initializer_list<TensorMapDim> dims, TensorSwizzle swizzle) {
  if (dims.size() == 0 || dims.size() > kMaxRank) return "no rank of 1 to 5";
  if (reinterpret_cast<uintptr_t>(data) % 16 != 0) return "data not aligned to 16 bytes";
  const TensorMapDim& inner = *dims.begin();
  if (inner.stride != 1) return "the innermost stride is not 1";
  const int64_t row_bytes = inner.box * element_bytes;
  if (row_bytes % 16 != 0) return "rows of the box are no multiples of 16 bytes";
  if (swizzle == TensorSwizzle::bytes128 && row_bytes > 128)
    return "rows of the box are longer than the swizzle's";
  for (const TensorMapDim& d : dims) {
    if (d.size < 1 || d.size > int64_t(1) << 32) return "a size out of range";
    if (d.box < 1 || d.box > 256) return "a box out of range";
    const int64_t stride_bytes = d.stride * element_bytes;
    if (&d != &inner && (stride_bytes % 16 != 0 || stride_bytes < 0))
      return "a stride that is no multiple of 16 bytes";
    if (stride_bytes >= int64_t(1) << 40) return "a stride out of range";
  }
  return nullptr;
}

}  // namespace

#ifdef __CUDACC__

namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// Asked of the runtime, so that nothing links to the driver.
Encode find_encode(const char* kernel) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t result = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                              12000, cudaEnableDefault, &found);
#else
  const cudaError_t result =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  if (result != cudaSuccess) fail_launch("tensor map", kernel, cudaGetErrorString(result));
  if (found != cudaDriverEntryPointSuccess)
    fail_launch("tensor map", kernel, "the driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<Encode>(function);
}

CUtensorMapDataType data_type(const char* kernel, DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::f32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case DType::u8:
      return CU_TENSOR_MAP_DATA_TYPE_UINT8;
    default:
      fail_launch("tensor map", kernel, "no such dtype");
  }
}

}  // namespace

TensorMap make_tensor_map(const char* kernel, const void* data, DType dtype,
                          std::initializer_list<TensorMapDim> dims, TensorSwizzle swizzle) {
  if (const char* fault = find_fault(data, dtype_bytes(dtype), dims, swizzle))
    fail_launch("tensor map", kernel, fault);
  static const Encode encode = find_encode(kernel);
  cuuint64_t sizes[kMaxRank], strides_bytes[kMaxRank];
  cuuint32_t box[kMaxRank], steps[kMaxRank];
  int rank = 0;
  for (const TensorMapDim& d : dims) {
    sizes[rank] = cuuint64_t(d.size);
    if (rank > 0) strides_bytes[rank - 1] = cuuint64_t(d.stride * dtype_bytes(dtype));
    box[rank] = cuuint32_t(d.box);
    steps[rank++] = 1;
  }
  CUtensorMap map;
  const CUresult result = encode(
      &map, data_type(kernel, dtype), cuuint32_t(rank), const_cast<void*>(data), sizes,
      strides_bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      swizzle == TensorSwizzle::bytes128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);  // zeros
  if (result != CUDA_SUCCESS)
    fail_launch("tensor map", kernel, "the driver refused its description");
  TensorMap copy;
  static_assert(sizeof(copy) == sizeof(map));
  memcpy(&copy, &map, sizeof(map));
  return copy;
}

#else

TensorMap make_tensor_map(const char* kernel, const void* data, DType dtype,
                          std::initializer_list<TensorMapDim> dims, TensorSwizzle swizzle) {
  if (const char* fault = find_fault(data, dtype_bytes(dtype), dims, swizzle))
    fail_launch("tensor map", kernel, fault);
  TensorMap map = {static_cast<const char*>(data), int(dtype_bytes(dtype)), 0, {}, {}, {}, swizzle};
  for (const TensorMapDim& d : dims) {
    map.sizes[map.rank] = d.size;
    map.strides_bytes[map.rank] = d.stride * dtype_bytes(dtype);
    map.box[map.rank++] = d.box;
  }
  return map;
}

#endif

}  // namespace forja
