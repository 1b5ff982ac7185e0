// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/matmul_trial.h"

#include <fmt/core.h>

#include <string_view>

#include "forja/device/gpu_runtime.h"
#include "forja/ops/elementwise.h"
#include "kernels/matmul/cublaslt.h"

namespace forja::cuda {
namespace {

using kernels::MatmulEpilogue;
using kernels::MatmulProblem;

// For what looks at addresses but does not use them.
void* const kAligned = reinterpret_cast<void*>(uintptr_t{4096});

constexpr std::string_view kEpilogueNames[] = {"", ", gelu_tanh", ", gelu_erf", ", swiglu"};

class Trial final : public MatmulTrial {
 public:
  Trial(Device device, const MatmulProblem& problem, bool has_bias)
      : device_(device), problem_(problem), has_bias_(has_bias), stream_(device) {
    problem_.a.data = problem_.b.data = problem_.c = problem_.y = kAligned;
    problem_.bias = has_bias ? kAligned : nullptr;
  }

  std::vector<MatmulWay> ways() override {
    if (!kernels::cublaslt_available()) return {};
    std::vector<MatmulWay> ways;
    const int algorithms = kernels::cublaslt_num_algorithms(problem_);
    for (int i = 0; i < algorithms; ++i) ways.push_back({.algorithm = i});
    const bool with_epilogue = problem_.epilogue != MatmulEpilogue::none;
    if (kernels::shown_faster(kernels::matmul_kernel(problem_), with_epilogue))
      ways.push_back({.custom = true});
    return ways;
  }

  double seconds(const MatmulWay& way) override {
    if (!memory_) make_operands();
    GpuEvent begin, end;
    begin.record(stream_.handle());
    if (way.custom)
      kernels::matmul(problem_, stream_.handle());
    else
      kernels::matmul_cublaslt(problem_, scratch_, stream_.handle(), way.algorithm);
    end.record(stream_.handle());
    end.synchronize();
    return end.seconds_since(begin);
  }

 private:
  // Random numbers: power, and so speed, depends on them.
  void* matrix(DType dtype, int64_t num_rows, int64_t stride) {
    const Context ctx{device_, memory_.get(), stream_.handle()};
    const Tensor t = allocate(*memory_, dtype, {num_rows * stride});
    const ArenaScope scope(*memory_);
    const Tensor numbers = allocate(*memory_, DType::f32, {num_rows * stride});
    fill_normal(ctx, numbers, 1, int64_t(++num_matrices_) << 40, 0.0f, 1.0f);
    convert(ctx, numbers, t);
    return t.data;
  }

  void place_operands() {
    MatmulProblem& p = problem_;
    p.a.data = matrix(p.dtype, p.a.k_contiguous ? p.m : p.k, p.a.stride);
    p.b.data = matrix(p.dtype, p.b.k_contiguous ? p.n : p.k, p.b.stride);
    p.c = matrix(p.c_dtype, p.m, p.c_stride);
    if (p.epilogue != MatmulEpilogue::none) p.y = matrix(p.c_dtype, p.m, p.y_stride);
    if (has_bias_) p.bias = matrix(p.bias_dtype, 1, p.n);
    scratch_ = memory_->allocate(kernels::kCublasLtScratchBytes);
  }

  void make_operands() {
    memory_ = std::make_unique<Arena>("a trial of a product", device_);
    place_operands();
    memory_ = std::make_unique<Arena>("a trial of a product", device_, memory_->peak_bytes());
    place_operands();
  }

  Device device_;
  MatmulProblem problem_;
  bool has_bias_;
  GpuStream stream_;  // makes the device the current one
  std::unique_ptr<Arena> memory_;
  void* scratch_ = nullptr;
  int num_matrices_ = 0;
};

std::string operand(const char* name, const kernels::MatmulOperand& x) {
  return fmt::format("{} {} stride {}", name, x.k_contiguous ? "along K" : "across K", x.stride);
}

}  // namespace

bool has_choice(const MatmulProblem& p) {
  for (const void* address :
       {p.a.data, p.b.data, static_cast<const void*>(p.c), p.bias, static_cast<const void*>(p.y)})
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) return false;
  return true;
}

std::string describe(const MatmulProblem& p, bool has_bias) {
  std::string text =
      fmt::format("{} x {} x {} {} to {}, {}, {}, c stride {}", p.m, p.n, p.k, dtype_name(p.dtype),
                  dtype_name(p.c_dtype), operand("a", p.a), operand("b", p.b), p.c_stride);
  if (p.accumulate) text += ", added";
  if (has_bias) text += fmt::format(", bias {}", dtype_name(p.bias_dtype));
  if (p.epilogue != MatmulEpilogue::none)
    text += fmt::format("{} stride {}", kEpilogueNames[int(p.epilogue)], p.y_stride);
  return text;
}

std::unique_ptr<MatmulTrial> make_trial(Device device, const MatmulProblem& problem,
                                        bool has_bias) {
  return std::make_unique<Trial>(device, problem, has_bias);
}

}  // namespace forja::cuda

namespace forja {

std::string matmul_machine(Device device) {
  const std::string library =
      kernels::cublaslt_available() ? kernels::cublaslt_version() : "no cuBLASLt";
  return gpu_name(device) + ", " + library;
}

}  // namespace forja
