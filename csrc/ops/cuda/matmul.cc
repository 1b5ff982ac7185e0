// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cuda/matmul.h"

#include "csrc/ops/cuda/arguments.h"
#include "csrc/ops/cuda/matmul_trial.h"
#include "kernels/matmul/cublaslt.h"
#include "kernels/matmul/matmul.h"

namespace forja::cuda {
namespace {

// From row to row. The stride of a single row means nothing: it is taken for one of many rows that
// begin at multiples of 16 bytes.
int64_t row_stride(int64_t num_rows, int64_t stride, int64_t row_size) {
  return num_rows > 1 ? stride : (row_size + 7) / 8 * 8;
}

// Of a matrix [outer, K], as view.
kernels::MatmulOperand operand(const Context& ctx, const Tensor& x, int outer_dim, int k_dim) {
  const bool k_contiguous = x.stride(k_dim) == 1 || x.size(k_dim) <= 1;
  const int rows = k_contiguous ? outer_dim : k_dim, in_row = k_contiguous ? k_dim : outer_dim;
  return {data(ctx, x), k_contiguous, row_stride(x.size(rows), x.stride(rows), x.size(in_row))};
}

bool chooses(const Context& ctx) {
  return ctx.gpu_matmul == GpuMatmul::automatic && ctx.matmul_choices != nullptr;
}

// A product of the run that is planned.
void note(const Context& ctx, const kernels::MatmulProblem& problem, bool has_bias) {
  if (!chooses(ctx)) return;
  ctx.matmul_choices->want(describe(problem, has_bias), [device = ctx.device, problem, has_bias] {
    return make_trial(device, problem, has_bias);
  });
}

MatmulWay way_of(const Context& ctx, const kernels::MatmulProblem& problem) {
  if (!chooses(ctx) || !has_choice(problem)) return {.custom = ctx.gpu_matmul == GpuMatmul::custom};
  return ctx.matmul_choices->find(describe(problem, problem.bias != nullptr));
}

// y is undefined without an epilogue.
void multiply(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
              MatmulOutput output, const Tensor& bias, kernels::MatmulEpilogue epilogue,
              const Tensor& y) {
  for (const int64_t size : {c.size(0), c.size(1), a.size(1)})
    FORJA_CHECK(size < int64_t(1) << 31, "matmul: sizes on a GPU are below 2^31, found {}", size);
  ArenaScope scope(*ctx.workspace);
  // Also where the library is not found: a plan may have been made elsewhere.
  void* scratch = ctx.gpu_matmul == GpuMatmul::custom
                      ? nullptr
                      : ctx.workspace->allocate(kernels::kCublasLtScratchBytes);
  const kernels::MatmulProblem problem = {
      .m = c.size(0),
      .n = c.size(1),
      .k = a.size(1),
      .dtype = a.dtype,
      .a = operand(ctx, a, 0, 1),
      .b = operand(ctx, b, 1, 0),
      .c = data(ctx, c),
      .c_dtype = c.dtype,
      .c_stride = row_stride(c.size(0), c.stride(0), c.size(1)),
      .accumulate = output == MatmulOutput::accumulate,
      .bias = data(ctx, bias),
      .bias_dtype = bias.defined() ? bias.dtype : DType::f32,
      .epilogue = epilogue,
      .y = data(ctx, y),
      .y_stride = y.defined() ? row_stride(y.size(0), y.stride(0), y.size(1)) : 0,
  };
  if (ctx.planning()) return note(ctx, problem, bias.defined());
  const bool available = kernels::cublaslt_available();
  if (ctx.gpu_matmul == GpuMatmul::cublaslt && !available) {
    fail_input(
        "kernels.matmul is cublaslt, but neither libcublasLt.so.13 nor libcublasLt.so.12 is found "
        "(LD_LIBRARY_PATH); auto or custom computes without it");
  }
  const MatmulWay way = way_of(ctx, problem);
  if (!way.custom && available &&
      kernels::matmul_cublaslt(problem, scratch, ctx.stream, way.algorithm))
    return;
  kernels::matmul(problem, ctx.stream);
}

}  // namespace

void matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
            MatmulOutput output, const Tensor& bias) {
  multiply(ctx, a, b, c, output, bias, kernels::MatmulEpilogue::none, {});
}

void matmul_gelu(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                 const Tensor& y, GeluKind kind, const Tensor& bias) {
  multiply(ctx, a, b, c, MatmulOutput::overwrite, bias,
           kind == GeluKind::tanh ? kernels::MatmulEpilogue::gelu_tanh
                                  : kernels::MatmulEpilogue::gelu_erf,
           y);
}

void matmul_swiglu(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& gate_up,
                   const Tensor& y, const Tensor& bias) {
  multiply(ctx, a, b, gate_up, MatmulOutput::overwrite, bias, kernels::MatmulEpilogue::swiglu, y);
}

}  // namespace forja::cuda
