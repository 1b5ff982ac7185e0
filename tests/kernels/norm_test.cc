// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/layer_norm.h"
#include "forja/ops/rms_norm.h"
#include "tests/kernels/gpu_testing.h"

namespace forja::testing {
namespace {

constexpr float kEps = 1e-5f;
enum class Kind { rms, layer };

// One norm of x-like tensors, forward with a residual connection, then backward with and without
// the residual's gradient, on the CPU and on the GPU.
class NormCase {
 public:
  NormCase(Kind kind, DType dtype, DType weight_dtype, int64_t rows, int64_t columns,
           int64_t padding = 0)
      : kind_(kind), rows_(rows), columns_(columns), padding_(padding) {
    x = matrix(dtype, 1);
    residual = matrix(dtype, 2);
    dy = matrix(dtype, 3);
    weight = cpu.normal(weight_dtype, {columns}, 4);
    if (kind == Kind::layer) bias = cpu.normal(DType::f32, {columns}, 5);
    weight_gradient = cpu.normal(DType::f32, {columns}, 6);
    bias_gradient = cpu.normal(DType::f32, {columns}, 7);
  }

  void run() {
    forward();
    add_forward();
    backward({}, "backward");
    backward(residual, "backward with residual");
  }

  TensorBox cpu{16 << 20};
  GpuBox gpu{16 << 20};
  Tensor x, residual, dy, weight, bias, weight_gradient, bias_gradient;

 private:
  Tensor matrix(DType dtype, uint64_t seed) {
    return cpu.normal(dtype, {rows_, columns_ + padding_}, seed).slice(1, 0, columns_);
  }
  Tensor like_x() { return matrix(x.dtype, 9); }

  void forward() {
    const Tensor y = like_x(), g_y = gpu.upload(y);
    call_forward(cpu.context(), x, weight, bias, y, mean_, rstd_);
    call_forward(gpu.context(), gpu.upload(x), gpu.upload(weight), gpu.upload(bias), g_y, g_mean_,
                 g_rstd_);
    expect_near(gpu, g_y, y, "y");
    expect_near(gpu, g_rstd_, rstd_, "rstd");
    if (kind_ == Kind::layer) expect_near(gpu, g_mean_, mean_, "mean", 1e-4);
    const Tensor in_place = gpu.upload(x);
    call_forward(gpu.context(), in_place, gpu.upload(weight), gpu.upload(bias), in_place, g_mean_,
                 g_rstd_);
    expect_near(gpu, in_place, y, "y, in place");
  }

  void add_forward() {
    const Tensor y = like_x(), sum = like_x(), g_y = gpu.upload(y),
                 g_residual = gpu.upload(residual);
    call_add_forward(cpu.context(), x, residual, weight, bias, sum, y, mean_, rstd_);
    call_add_forward(gpu.context(), gpu.upload(x), g_residual, gpu.upload(weight), gpu.upload(bias),
                     g_residual, g_y, g_mean_, g_rstd_);
    expect_equal(gpu, g_residual, sum, "sum, in place of the residual");
    expect_near(gpu, g_y, y, "y of a sum");
    expect_near(gpu, g_rstd_, rstd_, "rstd of a sum");
  }

  void backward(const Tensor& residual_gradient, const char* what) {
    const Tensor dx = like_x(), dw = copy(weight_gradient), db = copy(bias_gradient);
    call_backward(cpu.context(), dy, x, weight, mean_, rstd_, residual_gradient, dx, dw, db);
    Tensor results[2][3];
    for (auto& [g_dx, g_dw, g_db] : results) {
      g_dx = gpu.upload(residual_gradient.defined() ? residual_gradient : dy);
      g_dw = gpu.upload(weight_gradient);
      g_db = gpu.upload(bias_gradient);
      call_backward(gpu.context(), residual_gradient.defined() ? gpu.upload(dy) : g_dx,
                    gpu.upload(x), gpu.upload(weight), gpu.upload(mean_), gpu.upload(rstd_),
                    residual_gradient.defined() ? g_dx : Tensor(), g_dx, g_dw, g_db);
      expect_near(gpu, g_dx, dx, what);
      expect_near(gpu, g_dw, dw, "weight gradient");
      if (kind_ == Kind::layer) expect_near(gpu, g_db, db, "bias gradient");
    }
    const Tensor first = copy(dw);
    gpu.download(results[0][1], first);
    expect_equal(gpu, results[1][1], first, "weight gradient, again");
  }

  Tensor copy(const Tensor& t) {
    const Tensor c = cpu.empty(t.dtype, {t.size(0)});
    memcpy(c.data, t.data, size_t(t.num_bytes()));
    return c;
  }

  void call_forward(Context& ctx, const Tensor& in, const Tensor& w, const Tensor& b,
                    const Tensor& y, const Tensor& mean, const Tensor& rstd) {
    if (kind_ == Kind::rms) return rms_norm_forward(ctx, in, w, y, rstd, kEps);
    layer_norm_forward(ctx, in, w, b, y, mean, rstd, kEps);
  }
  void call_add_forward(Context& ctx, const Tensor& in, const Tensor& other, const Tensor& w,
                        const Tensor& b, const Tensor& sum, const Tensor& y, const Tensor& mean,
                        const Tensor& rstd) {
    if (kind_ == Kind::rms) return add_rms_norm_forward(ctx, in, other, w, sum, y, rstd, kEps);
    add_layer_norm_forward(ctx, in, other, w, b, sum, y, mean, rstd, kEps);
  }
  void call_backward(Context& ctx, const Tensor& d, const Tensor& in, const Tensor& w,
                     const Tensor& mean, const Tensor& rstd, const Tensor& other, const Tensor& dx,
                     const Tensor& dw, const Tensor& db) {
    if (kind_ == Kind::rms) return rms_norm_backward(ctx, d, in, w, rstd, other, dx, dw);
    layer_norm_backward(ctx, d, in, w, mean, rstd, other, dx, dw, db);
  }

  Kind kind_;
  int64_t rows_, columns_, padding_;
  Tensor mean_ = cpu.empty(DType::f32, {rows_}), rstd_ = cpu.empty(DType::f32, {rows_});
  Tensor g_mean_ = gpu.empty(DType::f32, {rows_}), g_rstd_ = gpu.empty(DType::f32, {rows_});
};

// Every way to lay a row over threads, in each dtype.
TEST(GpuNorm, RowLengths) {
  FORJA_REQUIRE_GPU();
  for (const Kind kind : {Kind::rms, Kind::layer}) {
    for (const int64_t columns : {1, 64, 200, 770, 1600, 4104}) {
      NormCase(kind, DType::bf16, DType::bf16, columns < 300 ? 67 : 5, columns).run();
      NormCase(kind, DType::f32, DType::f32, columns < 300 ? 67 : 4, (columns + 1) / 2).run();
    }
  }
}

TEST(GpuNorm, LongRows) {
  FORJA_REQUIRE_GPU();
  for (const Kind kind : {Kind::rms, Kind::layer}) {
    NormCase(kind, DType::bf16, DType::f32, 2, 9000).run();
    NormCase(kind, DType::f32, DType::f32, 3, 8203).run();
  }
}

// Rows that do not begin at 16 bytes, or do with gaps between them; an odd number of columns.
TEST(GpuNorm, Strided) {
  FORJA_REQUIRE_GPU();
  for (const Kind kind : {Kind::rms, Kind::layer}) {
    NormCase(kind, DType::bf16, DType::f32, 9, 64, 8).run();
    NormCase(kind, DType::bf16, DType::bf16, 9, 1031, 9).run();
    NormCase(kind, DType::f32, DType::f32, 9, 131, 3).run();
  }
}

// The queries of a fused projection [N, heads, D]: rank 3, with the keys and values between the
// rows.
TEST(GpuNorm, Heads) {
  FORJA_REQUIRE_GPU();
  for (const int64_t heads : {1, 3}) {
    TensorBox cpu(1 << 20);
    GpuBox gpu;
    const int64_t n = 7, d = 64;
    const Tensor qkv = cpu.normal(DType::bf16, {n, heads + 2, d}, 1), on_gpu = gpu.upload(qkv);
    const Tensor weight = cpu.normal(DType::f32, {d}, 2);
    const Tensor rstd = cpu.empty(DType::f32, {n * heads}),
                 g_rstd = gpu.empty(DType::f32, {n * heads});
    const Tensor q = qkv.slice(1, 0, heads), g_q = on_gpu.slice(1, 0, heads);
    const Tensor dq = cpu.normal(DType::bf16, {n, heads + 2, d}, 3), g_dq = gpu.upload(dq);
    const Tensor y = cpu.empty(DType::bf16, {n, heads, d}),
                 g_y = gpu.empty(DType::bf16, {n, heads, d});
    rms_norm_forward(cpu.context(), q, weight, y, rstd, kEps);
    rms_norm_forward(gpu.context(), g_q, gpu.upload(weight), g_y, g_rstd, kEps);
    expect_near(gpu, g_y, y, "y");
    expect_near(gpu, g_rstd, rstd, "rstd");
    const Tensor dw = cpu.zeros(DType::f32, {d}), g_dw = gpu.upload(dw);
    rms_norm_backward(cpu.context(), y, q, weight, rstd, {}, dq.slice(1, 0, heads), dw);
    rms_norm_backward(gpu.context(), gpu.upload(y), g_q, gpu.upload(weight), gpu.upload(rstd), {},
                      g_dq.slice(1, 0, heads), g_dw);
    expect_near(gpu, g_dq, dq, "dx and what lies between");
    expect_near(gpu, g_dw, dw, "weight gradient");
  }
}

// Frozen weights, no bias.
TEST(GpuNorm, Optional) {
  FORJA_REQUIRE_GPU();
  NormCase c(Kind::layer, DType::bf16, DType::bf16, 6, 96);
  const Tensor y = c.cpu.empty(DType::bf16, {6, 96}), mean = c.cpu.empty(DType::f32, {6});
  const Tensor rstd = c.cpu.empty(DType::f32, {6});
  const Tensor g_x = c.gpu.upload(c.x), g_w = c.gpu.upload(c.weight);
  const Tensor g_y = c.gpu.empty(DType::bf16, {6, 96}), g_mean = c.gpu.empty(DType::f32, {6});
  const Tensor g_rstd = c.gpu.empty(DType::f32, {6});
  layer_norm_forward(c.cpu.context(), c.x, c.weight, {}, y, mean, rstd, kEps);
  layer_norm_forward(c.gpu.context(), g_x, g_w, {}, g_y, g_mean, g_rstd, kEps);
  expect_near(c.gpu, g_y, y, "y");
  layer_norm_backward(c.cpu.context(), c.dy, c.x, c.weight, mean, rstd, {}, y, {}, {});
  layer_norm_backward(c.gpu.context(), c.gpu.upload(c.dy), g_x, g_w, g_mean, g_rstd, {}, g_y, {},
                      {});
  expect_near(c.gpu, g_y, y, "dx");
}

}  // namespace
}  // namespace forja::testing
