// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/gpu_testing.h"

#include <cmath>
#include <cstring>

namespace forja::testing {
namespace {

constexpr int64_t kGuardBytes = 256;
constexpr uint8_t kGuard = 0xa5, kPoison = 0xff;

int64_t span_elements(const Tensor& t) {
  int64_t last = 0;
  for (int i = 0; i < t.rank; ++i) {
    if (t.sizes[size_t(i)] == 0) return 0;
    last += (t.sizes[size_t(i)] - 1) * t.strides[size_t(i)];
  }
  return last + 1;
}

int64_t span_bytes(const Tensor& t) { return span_elements(t) * dtype_bytes(t.dtype); }

// A host copy of a GPU tensor.
struct HostCopy {
  HostCopy(GpuBox& gpu, const Tensor& t) : memory(size_t(span_bytes(t))), tensor(t) {
    tensor.data = memory.data();
    tensor.device = {};
    gpu.download(t, tensor);
  }
  std::vector<uint8_t> memory;
  Tensor tensor;
};

}  // namespace

GpuBox::GpuBox(int64_t capacity_bytes)
    : arena_("tensors of a test", device_, capacity_bytes),
      workspace_("workspace of a test", device_, capacity_bytes),
      stream_(device_),
      context_{device_, &workspace_, stream_.handle()} {}

Tensor GpuBox::place(const Tensor& like, int64_t bytes) {
  auto* begin = static_cast<uint8_t*>(arena_.allocate(bytes + 2 * kGuardBytes));
  gpu_fill_bytes(begin, kGuard, bytes + 2 * kGuardBytes, context_.stream);
  gpu_fill_bytes(begin + kGuardBytes, kPoison, bytes, context_.stream);
  guarded_.push_back({begin, bytes});
  Tensor t = like;
  t.data = begin + kGuardBytes;
  t.device = device_;
  return t;
}

Tensor GpuBox::empty(DType dtype, std::initializer_list<int64_t> shape) {
  const Tensor t = make_tensor(nullptr, dtype, shape);
  return place(t, t.num_bytes());
}

Tensor GpuBox::upload(const Tensor& host) {
  if (!host.defined()) return host;
  const Tensor t = place(host, span_bytes(host));
  gpu_copy(t.data, host.data, span_bytes(host), context_.stream);
  stream_.synchronize();
  return t;
}

void GpuBox::download(const Tensor& gpu, const Tensor& host) {
  FORJA_CHECK(gpu.sizes == host.sizes && gpu.strides == host.strides && gpu.dtype == host.dtype,
              "{} downloaded into {}", gpu.to_string(), host.to_string());
  gpu_copy(host.data, gpu.data, span_bytes(gpu), context_.stream);
  stream_.synchronize();
}

void GpuBox::check() {
  stream_.synchronize();
  std::vector<uint8_t> guard(static_cast<size_t>(kGuardBytes));
  for (const Guarded& g : guarded_) {
    for (const uint8_t* at : {g.begin, g.begin + kGuardBytes + g.bytes}) {
      gpu_copy(guard.data(), at, kGuardBytes, context_.stream);
      stream_.synchronize();
      for (const uint8_t byte : guard)
        ASSERT_EQ(byte, kGuard) << "bytes " << (at == g.begin ? "before" : "after")
                                << " a tensor of " << g.bytes << " bytes were overwritten";
    }
  }
}

void expect_near(GpuBox& gpu, const Tensor& found, const Tensor& expected, const std::string& what,
                 double bound) {
  if (bound == 0.0) bound = expected.dtype == DType::bf16 ? 4e-3 : 1e-5;
  const HostCopy copy(gpu, found);
  const std::vector<double> a = to_doubles(copy.tensor), b = to_doubles(expected);
  ASSERT_EQ(a.size(), b.size()) << what;
  double difference = 0.0, norm = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) {
      norm += std::isfinite(b[i]) ? b[i] * b[i] : 0.0;
      continue;
    }
    ASSERT_TRUE(std::isfinite(a[i]) && std::isfinite(b[i]))
        << what << "[" << i << "]: " << a[i] << ", expected " << b[i];
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  EXPECT_LE(std::sqrt(difference), bound * std::sqrt(norm)) << what;
}

void expect_equal(GpuBox& gpu, const Tensor& found, const Tensor& expected,
                  const std::string& what) {
  const HostCopy copy(gpu, found);
  const std::vector<double> a = to_doubles(copy.tensor), b = to_doubles(expected);
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_TRUE(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))
        << what << "[" << i << "]: " << a[i] << ", expected " << b[i];
}

}  // namespace forja::testing
