// SPDX-License-Identifier: Apache-2.0
// What the tests of GPU ops share: the same op runs on the CPU and on the GPU (emulated, or a real
// one), on fresh copies of the same numbers.
#pragma once

#include <string>
#include <vector>

#include "forja/device/gpu_runtime.h"
#include "tests/testing/testing.h"

namespace forja::testing {

// Tensors on the GPU. Each lies between guard bytes, which check() and the destructor look at.
class GpuBox {
 public:
  explicit GpuBox(int64_t capacity_bytes = int64_t(16) << 20);
  ~GpuBox() { check(); }

  Context& context() { return context_; }
  // Poisoned with NaNs.
  Tensor empty(DType dtype, std::initializer_list<int64_t> shape);
  // The numbers of a host tensor, with its strides (and what lies in their gaps).
  Tensor upload(const Tensor& host);
  // Into a host tensor with the same strides: the elements, and the gaps, which no op may touch.
  void download(const Tensor& gpu, const Tensor& host);
  // Waits for the GPU, throws what went wrong there, and fails the test where guards changed.
  void check();

 private:
  Tensor place(const Tensor& like, int64_t span_bytes);

  Device device_{DeviceKind::cuda, 0};
  Arena arena_, workspace_;
  GpuStream stream_;
  Context context_;
  struct Guarded {
    const uint8_t* begin;
    int64_t bytes;
  };
  std::vector<Guarded> guarded_;
};

// ||found - expected|| / ||expected|| is at most `bound`, and nothing is NaN where expected is not.
// Default bounds: 1e-5 in fp32; 4e-3 in bf16, where two roundings of nearly the same number may
// differ.
void expect_near(GpuBox& gpu, const Tensor& found, const Tensor& expected, const std::string& what,
                 double bound = 0.0);
// Bit for bit.
void expect_equal(GpuBox& gpu, const Tensor& found, const Tensor& expected,
                  const std::string& what);

}  // namespace forja::testing

// Skips the test where there is no GPU.
#define FORJA_REQUIRE_GPU() \
  if (::forja::num_gpus() == 0) GTEST_SKIP() << "needs a GPU"
