// SPDX-License-Identifier: Apache-2.0
// Rates of the ops on a GPU, as JSON: one object a case with the median and the spread of its time.
//   gpu_benchmark [--quick] > forja.json
// Inputs rotate through more memory than the second-level cache holds, so that each call reads from
// memory. benchmarks/gpu/compare.py runs the same cases through PyTorch and puts both side by side.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "forja/base/version.h"
#include "forja/device/gpu.h"
#include "forja/device/gpu_runtime.h"
#include "forja/ops/activation.h"
#include "forja/ops/adamw.h"
#include "forja/ops/attention.h"
#include "forja/ops/cross_entropy.h"
#include "forja/ops/elementwise.h"
#include "forja/ops/embedding.h"
#include "forja/ops/layer_norm.h"
#include "forja/ops/matmul.h"
#include "forja/ops/rms_norm.h"
#include "forja/ops/rope.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

constexpr Device kGpu{DeviceKind::cuda, 0};
constexpr int64_t kRotationBytes = int64_t(256) << 20;  // several times an H200's 50 MB of L2

// What all cases share: memory, a stream, and where results go.
class Bench {
 public:
  explicit Bench(bool quick) : repeats_(quick ? 10 : 40) {}

  // Bytes and flops are what the case needs at least; `body(set)` enqueues one call on that set of
  // tensors.
  void run(Json name, double flops, double bytes, int num_sets,
           const std::function<void(int)>& body) {
    for (int i = 0; i < std::max(3, num_sets); ++i) body(i % num_sets);
    std::vector<double> times;
    for (int i = 0; i < repeats_; ++i) {
      GpuEvent begin, end;
      begin.record(context_.stream);
      body(i % num_sets);
      end.record(context_.stream);
      end.synchronize();
      times.push_back(end.seconds_since(begin));
    }
    std::sort(times.begin(), times.end());
    const auto at = [&](double q) { return times[size_t(q * double(times.size() - 1))]; };
    name["seconds"] = at(0.5);
    name["p5"] = at(0.05);
    name["p95"] = at(0.95);
    if (flops > 0) name["tflops"] = flops / at(0.5) * 1e-12;
    if (bytes > 0) {
      const double rate = bytes / at(0.5) * 1e-9;
      if (name["op"] == "copy fp32") copy_rate_ = rate;
      name["gbytes_per_s"] = rate;
      if (copy_rate_ > 0) name["percent_of_copy"] = 100.0 * rate / copy_rate_;
    }
    results_.push_back(name);
    std::fprintf(stderr, "%s\n", name.dump().c_str());
  }

  Tensor normal(DType dtype, std::initializer_list<int64_t> shape) {
    const Tensor t = allocate(arena_, dtype, shape);
    const Tensor flat = t.view({t.num_elements()});
    if (dtype == DType::f32) {
      fill_normal(context_, flat, 1, seed_++ << 40, 0.0f, 1.0f);
      return t;
    }
    const int64_t piece = int64_t(1) << 24;
    const Tensor scratch = allocate(workspace_, DType::f32, {piece});
    for (int64_t begin = 0; begin < flat.size(0); begin += piece) {
      const int64_t count = std::min(piece, flat.size(0) - begin);
      fill_normal(context_, scratch.slice(0, 0, count), 1, seed_++ << 40, 0.0f, 1.0f);
      convert(context_, scratch.slice(0, 0, count), flat.slice(0, begin, begin + count));
    }
    synchronize(context_);
    workspace_.release(0);
    return t;
  }
  Tensor empty(DType dtype, std::initializer_list<int64_t> shape) {
    return allocate(arena_, dtype, shape);
  }
  Tensor upload(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
    const Tensor t = allocate(arena_, DType::i32, shape);
    copy_bytes(context_, t.data, values.data(), t.num_bytes());
    synchronize(context_);
    return t;
  }

  Arena& arena() { return arena_; }
  const Context& context() const { return context_; }
  const Json& results() const { return results_; }

 private:
  int repeats_;
  int64_t seed_ = 0;
  double copy_rate_ = 0.0;  // GB/s of the copy, which is the first case
  Arena arena_{"tensors", kGpu, int64_t(24) << 30}, workspace_{"workspace", kGpu, int64_t(6) << 30};
  GpuStream stream_{kGpu};
  Context context_{kGpu, &workspace_, stream_.handle()};
  Json results_ = Json::array();
};

int sets_for(int64_t bytes) { return int(std::clamp<int64_t>(kRotationBytes / bytes + 1, 1, 16)); }

// ---- Matrix products

// forward y = x w^T, input gradient dx = dy w, weight gradient dw += dy^T x of a linear layer
// [out, in] over `tokens`.
void bench_linear(Bench& b, DType dtype, int64_t tokens, int64_t in, int64_t out) {
  const double flops = 2.0 * double(tokens) * double(in) * double(out);
  const int sets = sets_for((tokens * (in + out) + in * out) * dtype_bytes(dtype));
  for (const char* pass : {"forward", "dgrad", "wgrad"}) {
    const ArenaScope scope(b.arena());
    std::vector<Tensor> x, w, y, dw;
    for (int i = 0; i < sets; ++i) {
      x.push_back(b.normal(dtype, {tokens, in}));
      w.push_back(b.normal(dtype, {out, in}));
      y.push_back(b.normal(dtype, {tokens, out}));
    }
    dw.push_back(b.empty(DType::f32, {out, in}));
    fill_zero(b.context(), dw[0]);
    const std::string which = pass;
    b.run({{"op", "matmul"},
           {"pass", which},
           {"dtype", std::string(dtype_name(dtype))},
           {"tokens", tokens},
           {"in", in},
           {"out", out}},
          flops, 0.0, sets, [&](int i) {
            const Tensor &xi = x[size_t(i)], &wi = w[size_t(i)], &yi = y[size_t(i)];
            if (which == "forward") matmul(b.context(), xi, wi.transposed(), yi);
            if (which == "dgrad") matmul(b.context(), yi, wi, xi);
            if (which == "wgrad")
              matmul(b.context(), yi.transposed(), xi, dw[0], MatmulOutput::accumulate);
          });
  }
}

// The expansion of an MLP with its activation: as one op beside the product and then the
// activation, with the library's products and with ours. `f`: columns of the activation.
void bench_expansion(Bench& b, int64_t tokens, int64_t in, int64_t f, bool gated) {
  const int64_t out = gated ? 2 * f : f;
  const int sets = sets_for((tokens * (in + out + f) + in * out) * 2);
  const ArenaScope scope(b.arena());
  std::vector<Tensor> x, w, c, y;
  for (int i = 0; i < sets; ++i) {
    x.push_back(b.normal(DType::bf16, {tokens, in}));
    w.push_back(b.normal(DType::bf16, {out, in}));
    c.push_back(b.empty(DType::bf16, {tokens, out}));
    y.push_back(b.empty(DType::bf16, {tokens, f}));
  }
  Context ctx = b.context();
  const auto run = [&](const char* kernels, const char* how, const std::function<void(int)>& body) {
    b.run({{"op", "matmul + activation"},
           {"activation", gated ? "swiglu" : "gelu_tanh"},
           {"kernels", kernels},
           {"how", how},
           {"tokens", tokens},
           {"in", in},
           {"out", out}},
          2.0 * double(tokens) * double(in) * double(out), 0.0, sets, body);
  };
  const auto weight = [&](int i) { return w[size_t(i)].transposed(); };
  for (const bool ours : {false, true}) {
    ctx.gpu_matmul = ours ? GpuMatmul::custom : GpuMatmul::automatic;
    const char* kernels = ours ? "custom" : "auto";
    run(kernels, "fused", [&](int i) {
      const size_t s = size_t(i);
      if (gated) return matmul_swiglu(ctx, x[s], weight(i), c[s], y[s]);
      matmul_gelu(ctx, x[s], weight(i), c[s], y[s], GeluKind::tanh);
    });
    run(kernels, "apart", [&](int i) {
      const size_t s = size_t(i);
      matmul(ctx, x[s], weight(i), c[s]);
      if (gated) return swiglu_forward(ctx, c[s], y[s]);
      gelu_forward(ctx, c[s], y[s], GeluKind::tanh);
    });
  }
}

void bench_matmuls(Bench& b, bool quick) {
  bench_linear(b, DType::bf16, 8192, 8192, 8192);
  bench_expansion(b, 8192, 2048, 8192, true);
  bench_expansion(b, 8192, 4096, 11008, true);
  bench_expansion(b, 8192, 2048, 8192, false);
  struct Shape {
    int64_t in, out;
  };
  // QKV, attention output, gate and up, down: of models of 1B, 7B and 13B.
  for (const int64_t h : {int64_t(2048), int64_t(4096), int64_t(5120)}) {
    const int64_t f = h == 2048 ? 8192 : h == 4096 ? 11008 : 13824;
    for (const Shape s : {Shape{h, 3 * h}, Shape{h, h}, Shape{h, 2 * f}, Shape{f, h}})
      bench_linear(b, DType::bf16, 8192, s.in, s.out);
    if (quick) return;
  }
  bench_linear(b, DType::f32, 4096, 2048, 2048);
}

// ---- Attention

void bench_attention(Bench& b, int64_t length, int64_t heads, int64_t kv_heads, int64_t d) {
  const ArenaScope scope(b.arena());
  const int64_t batch = std::max<int64_t>(1, 16384 / length), n = batch * length;
  const DType t = DType::bf16;
  const Tensor q = b.normal(t, {n, heads, d}), k = b.normal(t, {n, kv_heads, d}),
               v = b.normal(t, {n, kv_heads, d}), out = b.empty(t, {n, heads, d});
  const Tensor lse = b.empty(DType::f32, {heads, n}), dout = b.normal(t, {n, heads, d});
  const Tensor dq = b.empty(t, {n, heads, d}), dk = b.empty(t, {n, kv_heads, d}),
               dv = b.empty(t, {n, kv_heads, d});
  std::vector<int32_t> rows;
  for (int64_t i = 0; i < batch; ++i)
    for (const int64_t field : {i * length, length, i * length, length})
      rows.push_back(int32_t(field));
  const Tensor sequences = b.upload(rows, {batch, 4});
  const AttentionOptions options{.scale = float(1.0 / std::sqrt(double(d)))};
  const double pairs = double(batch) * double(length) * double(length + 1) / 2;
  const double flops = 4.0 * double(d) * double(heads) * pairs;
  const auto name = [&](const char* pass) {
    return Json{{"op", "attention"}, {"pass", pass},         {"batch", batch}, {"length", length},
                {"heads", heads},    {"kv_heads", kv_heads}, {"head_dim", d},  {"causal", true}};
  };
  const auto forward = [&](int) {
    attention_forward(b.context(), q, k, v, sequences, out, lse, options);
  };
  b.run(name("forward"), flops, 0.0, 1, forward);
  b.run(name("backward"), 2.5 * flops, 0.0, 1, [&](int) {
    attention_backward(b.context(), dout, q, k, v, out, lse, sequences, dq, dk, dv, options);
  });
}

// ---- Memory-bound ops

void bench_memory(Bench& b) {
  const int64_t n = 16384, h = 4096;
  const DType t = DType::bf16;
  const double one = double(n * h) * 2;  // bytes of a tensor
  const auto name = [&](const char* op) { return Json{{"op", op}, {"rows", n}, {"columns", h}}; };
  const auto rows = [&](int64_t columns) { return b.normal(t, {n, columns}); };
  const Context& ctx = b.context();
  {
    const ArenaScope scope(b.arena());
    const Tensor x = b.normal(DType::f32, {n, h}), y = b.empty(DType::f32, {n, h});
    b.run(name("copy fp32"), 0, 4 * one, 1, [&](int) { convert(ctx, x, y); });
  }
  {
    const ArenaScope scope(b.arena());
    const Tensor x = rows(h), r = rows(h), sum = rows(h), y = rows(h), w = b.normal(t, {h});
    const Tensor rstd = b.empty(DType::f32, {n});
    b.run(name("add + rms_norm forward"), 0, 4 * one, 1,
          [&](int) { add_rms_norm_forward(ctx, x, r, w, sum, y, rstd, 1e-5f); });
  }
  {
    const ArenaScope scope(b.arena());
    const Tensor x = rows(h), dy = rows(h), res = rows(h), dx = rows(h), w = b.normal(t, {h});
    const Tensor rstd = b.empty(DType::f32, {n}), dw = b.normal(DType::f32, {h});
    fill_value(ctx, rstd, 1.0f);
    b.run(name("rms_norm backward + residual"), 0, 4 * one, 1,
          [&](int) { rms_norm_backward(ctx, dy, x, w, rstd, res, dx, dw); });
  }
  {
    const ArenaScope scope(b.arena());
    const Tensor x = rows(2 * h), y = rows(h);
    b.run(name("swiglu forward"), 0, 3 * one, 1, [&](int) { swiglu_forward(ctx, x, y); });
  }
  {
    const ArenaScope scope(b.arena());
    const Tensor x = rows(2 * h), dy = rows(h);
    b.run(name("swiglu backward"), 0, 5 * one, 1, [&](int) { swiglu_backward(ctx, dy, x, x); });
  }
  {
    const ArenaScope scope(b.arena());
    const Tensor x = rows(h);
    const Tensor bias = b.normal(DType::f32, {h});
    b.run(name("bias_gradient"), 0, one, 1, [&](int) { bias_gradient(ctx, x, bias); });
  }
  {
    const ArenaScope scope(b.arena());
    const int64_t rows_of_logits = 4096, vocabulary = 128256;
    const Tensor logits = b.normal(t, {rows_of_logits, vocabulary});
    const Tensor targets =
        b.upload(std::vector<int32_t>(size_t(rows_of_logits), 5), {rows_of_logits});
    const Tensor maximum = b.empty(DType::f32, {rows_of_logits}),
                 sum = b.empty(DType::f32, {rows_of_logits}),
                 target = b.empty(DType::f32, {rows_of_logits});
    b.run({{"op", "softmax_statistics"}, {"rows", rows_of_logits}, {"columns", vocabulary}}, 0,
          double(rows_of_logits * vocabulary) * 2, 1,
          [&](int) { softmax_statistics(ctx, logits, targets, 0, maximum, sum, target); });
  }
}

// 2^28 elements in one tensor, or in thousands: what that takes longer is what the list costs.
// Bytes an element: kernels/optimizer.
void bench_optimizer(Bench& b, DType moments, Rounding rounding, int64_t tensors) {
  const ArenaScope scope(b.arena());
  const Context& ctx = b.context();
  const int64_t count = (int64_t(1) << 28) / tensors;
  std::vector<AdamWRange> ranges;
  for (int64_t i = 0; i < tensors; ++i) {
    ranges.push_back({.gradient = b.normal(DType::f32, {count}),
                      .weight = b.normal(DType::f32, {count}),
                      .first_moment = b.normal(moments, {count}),
                      .second_moment = b.empty(moments, {count}),
                      .compute_weight = b.empty(DType::bf16, {count})});
    fill_value(ctx, ranges.back().second_moment, 1.0f);
  }
  const AdamWState shared{b.empty(DType::f64, {1}), b.empty(DType::i64, {1}),
                          b.empty(DType::f64, {1})};
  fill_zero(ctx, shared.sum_of_squares);
  fill_zero(ctx, shared.num_updates);
  fill_zero(ctx, shared.largest_sum);
  begin_adamw_step(ctx, shared);
  const AdamWList list = make_adamw_list(ctx, ranges, b.arena());
  const AdamWOptions options{1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 1.0f, rounding};
  const auto elements = double(tensors * count);
  Json name = {{"op", "adamw"},
               {"elements", count},
               {"tensors", tensors},
               {"moments", std::string(dtype_name(moments))}};
  if (rounding == Rounding::stochastic) name["rounding"] = "stochastic";
  b.run(name, 0, elements * double(4 + 8 + 4 * dtype_bytes(moments) + 2), 1,
        [&](int) { adamw_step(ctx, shared, options, list); });
  if (moments == DType::bf16) return;
  b.run({{"op", "sum_of_squares"}, {"elements", count}, {"tensors", tensors}}, 0, elements * 4, 1,
        [&](int) { sum_of_squares(ctx, list, shared.sum_of_squares); });
}

int run(bool quick) {
  if (num_gpus() == 0) {
    std::fprintf(stderr, "GPUs: %s\n", survey_gpus().summary.c_str());
    return 1;
  }
  Bench bench(quick);
  bench_memory(bench);
  for (const int64_t tensors : {1, 4096}) {
    bench_optimizer(bench, DType::f32, Rounding::nearest, tensors);
    bench_optimizer(bench, DType::bf16, Rounding::nearest, tensors);
    bench_optimizer(bench, DType::bf16, Rounding::stochastic, tensors);
  }
  bench_matmuls(bench, quick);
  for (const int64_t length : {4096, 8192, 16384}) bench_attention(bench, length, 64, 8, 128);
  bench_attention(bench, 4096, 16, 16, 64);
  Json out = {{"format_version", 1},
              {"git_revision", kGitRevision},
              {"gpus", survey_gpus().gpus},
              {"results", bench.results()}};
  std::printf("%s\n", out.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace forja

int main(int argc, char** argv) {
  try {
    return forja::run(argc > 1 && std::strcmp(argv[1], "--quick") == 0);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
