// SPDX-License-Identifier: Apache-2.0
// Speed of the CPU ops at the shapes of training: GFLOP/s of what computes, GB/s of what moves
// memory (every byte that must be read or written, once). OMP_NUM_THREADS sets the threads. To
// compare with: copy, and matmul/square.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "csrc/ops/cpu/gemm.h"
#include "csrc/ops/cpu/onednn.h"
#include "forja/ops/activation.h"
#include "forja/ops/adamw.h"
#include "forja/ops/attention.h"
#include "forja/ops/cross_entropy.h"
#include "forja/ops/dropout.h"
#include "forja/ops/elementwise.h"
#include "forja/ops/embedding.h"
#include "forja/ops/layer_norm.h"
#include "forja/ops/matmul.h"
#include "forja/ops/rms_norm.h"
#include "forja/ops/rope.h"

namespace forja {
namespace {

using benchmark::State;

// Memory of one benchmark. Arenas take what is touched, so the capacity may be generous.
struct Bench {
  Arena arena{"tensors", {}, int64_t(6) << 30}, workspace{"workspace", {}, int64_t(2) << 30};
  Context ctx{.device = {}, .workspace = &workspace};
  uint64_t seed = 1;

  Tensor random(DType dtype, std::initializer_list<int64_t> shape, float std = 1.0f) {
    const Tensor t = allocate(arena, dtype, shape);
    const ArenaScope scope(workspace);
    const Tensor values = dtype == DType::f32 ? t : allocate(workspace, DType::f32, shape);
    // Enough different numbers; drawing every one would take longer than the benchmark.
    const int64_t n = values.num_elements(), drawn = std::min<int64_t>(n, 1 << 16);
    float* data = values.ptr<float>();
    fill_normal(ctx, make_tensor(data, DType::f32, {drawn}), seed++, 0, 0.0f, std);
    for (int64_t i = drawn; i < n; ++i) data[i] = data[i - drawn];
    if (dtype != DType::f32) convert(ctx, values, t);
    return t;
  }
  Tensor zeros(DType dtype, std::initializer_list<int64_t> shape) {
    const Tensor t = allocate(arena, dtype, shape);
    fill_zero(ctx, t);
    return t;
  }
};

void report_flops(State& state, double flops) {
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops * 1e-9 * double(state.iterations()), benchmark::Counter::kIsRate);
}
void report_bytes(State& state, double bytes) {
  state.counters["GB/s"] =
      benchmark::Counter(bytes * 1e-9 * double(state.iterations()), benchmark::Counter::kIsRate);
}

// ---- Matrix multiplication

using MatmulFunction = void (*)(const Context&, const Tensor&, const Tensor&, const Tensor&,
                                MatmulOutput, const Tensor&);

struct MatmulShape {
  const char* name;
  int64_t m, n, k;
  bool a_transposed, b_transposed;
  bool gradient;  // accumulates into fp32
};

constexpr MatmulShape kMatmulShapes[] = {
    {"qkv_forward", 4096, 2304, 768, false, true, false},
    {"mlp_up_forward", 4096, 3072, 768, false, true, false},
    {"mlp_down_forward", 4096, 768, 3072, false, true, false},
    {"mlp_up_dx", 4096, 768, 3072, false, false, false},
    {"mlp_down_dx", 4096, 3072, 768, false, false, false},
    {"mlp_up_dw", 3072, 768, 4096, true, false, true},
    {"mlp_down_dw", 768, 3072, 4096, true, false, true},
    {"head_forward", 1024, 50257, 768, false, true, false},
    {"head_dx", 1024, 768, 50257, false, false, false},
    {"head_dw", 50257, 768, 1024, true, false, true},
    {"short_forward", 256, 3072, 768, false, true, false},
    {"short_dw", 3072, 768, 256, true, false, true},
    {"square", 2048, 2048, 2048, false, false, false},
    {"decode_8", 8, 3072, 768, false, true, false},
    {"decode_1", 1, 3072, 768, false, true, false},
};

void matmul_benchmark(State& state, MatmulFunction function, MatmulShape s, DType dtype) {
  Bench b;
  const Tensor a =
      s.a_transposed ? b.random(dtype, {s.k, s.m}).transposed() : b.random(dtype, {s.m, s.k});
  const Tensor w =
      s.b_transposed ? b.random(dtype, {s.n, s.k}).transposed() : b.random(dtype, {s.k, s.n});
  const Tensor c = b.zeros(s.gradient ? DType::f32 : dtype, {s.m, s.n});
  const MatmulOutput output = s.gradient ? MatmulOutput::accumulate : MatmulOutput::overwrite;
  for (auto _ : state) function(b.ctx, a, w, c, output, {});
  report_flops(state, 2.0 * double(s.m) * double(s.n) * double(s.k));
}

// ---- Attention

void attention_benchmark(State& state, DType dtype, int64_t batch, int64_t length, int64_t heads,
                         int64_t key_heads, int64_t dim, bool backward) {
  Bench b;
  const int64_t n = batch * length;
  const Tensor qkv = b.random(dtype, {n, heads + 2 * key_heads, dim});
  const Tensor q = qkv.slice(1, 0, heads), k = qkv.slice(1, heads, heads + key_heads);
  const Tensor v = qkv.slice(1, heads + key_heads, heads + 2 * key_heads);
  const Tensor dqkv = b.zeros(dtype, {n, heads + 2 * key_heads, dim});
  const Tensor out = b.zeros(dtype, {n, heads, dim}), dout = b.random(dtype, {n, heads, dim});
  const Tensor lse = b.zeros(DType::f32, {heads, n}), sequences = b.zeros(DType::i32, {batch, 4});
  for (int64_t i = 0; i < batch; ++i) {
    const int32_t row[4] = {int32_t(i * length), int32_t(length), int32_t(i * length),
                            int32_t(length)};
    std::copy(row, row + 4, sequences.ptr<int32_t>() + 4 * i);
  }
  const AttentionOptions options{
      .causal = true, .window = 0, .scale = 1.0f / std::sqrt(float(dim))};
  attention_forward(b.ctx, q, k, v, sequences, out, lse, options);
  for (auto _ : state) {
    if (!backward) {
      attention_forward(b.ctx, q, k, v, sequences, out, lse, options);
    } else {
      attention_backward(b.ctx, dout, q, k, v, out, lse, sequences, dqkv.slice(1, 0, heads),
                         dqkv.slice(1, heads, heads + key_heads),
                         dqkv.slice(1, heads + key_heads, heads + 2 * key_heads), options);
    }
  }
  const double pairs = double(batch * heads) * double(length) * double(length + 1) / 2;
  report_flops(state, (backward ? 10.0 : 4.0) * pairs * double(dim));
}

void attention_decode_benchmark(State& state, DType dtype, int64_t keys, int64_t heads,
                                int64_t key_heads, int64_t dim) {
  Bench b;
  const Tensor q = b.random(dtype, {1, heads, dim}), out = b.zeros(dtype, {1, heads, dim});
  const Tensor k = b.random(dtype, {keys, key_heads, dim}),
               v = b.random(dtype, {keys, key_heads, dim});
  const Tensor sequences = b.zeros(DType::i32, {1, 4});
  sequences.ptr<int32_t>()[1] = 1;
  sequences.ptr<int32_t>()[3] = int32_t(keys);
  const AttentionOptions options{.causal = true, .window = 0, .scale = 0.125f};
  for (auto _ : state) attention_forward(b.ctx, q, k, v, sequences, out, {}, options);
  report_bytes(state, double(k.num_bytes() + v.num_bytes()));
}

// ---- Norms, activations, the rest

void layer_norm_benchmark(State& state, DType dtype, bool backward) {
  Bench b;
  const int64_t n = 4096, h = 768;
  const Tensor x = b.random(dtype, {n, h}), residual = b.random(dtype, {n, h}),
               sum = b.zeros(dtype, {n, h});
  const Tensor y = b.zeros(dtype, {n, h}), w = b.random(DType::f32, {h}),
               bias = b.random(DType::f32, {h});
  const Tensor mean = b.zeros(DType::f32, {n}), rstd = b.zeros(DType::f32, {n});
  const Tensor dw = b.zeros(DType::f32, {h}), db = b.zeros(DType::f32, {h});
  add_layer_norm_forward(b.ctx, x, residual, w, bias, sum, y, mean, rstd, 1e-5f);
  for (auto _ : state) {
    if (backward) {
      layer_norm_backward(b.ctx, x, sum, w, mean, rstd, residual, y, dw, db);
    } else {
      add_layer_norm_forward(b.ctx, x, residual, w, bias, sum, y, mean, rstd, 1e-5f);
    }
  }
  report_bytes(state, 4.0 * double(x.num_bytes()));
}

void rms_norm_benchmark(State& state, DType dtype, bool backward) {
  Bench b;
  const int64_t n = 4096, h = 768;
  const Tensor x = b.random(dtype, {n, h}), residual = b.random(dtype, {n, h}),
               sum = b.zeros(dtype, {n, h});
  const Tensor y = b.zeros(dtype, {n, h}), w = b.random(DType::f32, {h}),
               rstd = b.zeros(DType::f32, {n});
  const Tensor dw = b.zeros(DType::f32, {h});
  add_rms_norm_forward(b.ctx, x, residual, w, sum, y, rstd, 1e-5f);
  for (auto _ : state) {
    if (backward) {
      rms_norm_backward(b.ctx, x, sum, w, rstd, residual, y, dw);
    } else {
      add_rms_norm_forward(b.ctx, x, residual, w, sum, y, rstd, 1e-5f);
    }
  }
  report_bytes(state, 4.0 * double(x.num_bytes()));
}

void gelu_benchmark(State& state, DType dtype, GeluKind kind, bool backward) {
  Bench b;
  const Tensor x = b.random(dtype, {4096, 3072}), dy = b.random(dtype, {4096, 3072}),
               y = b.zeros(dtype, {4096, 3072});
  for (auto _ : state) {
    if (backward) {
      gelu_backward(b.ctx, dy, x, y, kind);
    } else {
      gelu_forward(b.ctx, x, y, kind);
    }
  }
  report_bytes(state, (backward ? 3.0 : 2.0) * double(x.num_bytes()));
}

void swiglu_benchmark(State& state, DType dtype, bool backward) {
  Bench b;
  const Tensor x = b.random(dtype, {4096, 4096}), y = b.random(dtype, {4096, 2048}),
               dx = b.zeros(dtype, {4096, 4096});
  for (auto _ : state) {
    if (backward) {
      swiglu_backward(b.ctx, y, x, dx);
    } else {
      swiglu_forward(b.ctx, x, y);
    }
  }
  report_bytes(state, double(x.num_bytes()) * (backward ? 2.5 : 1.5));
}

void softmax_benchmark(State& state, DType dtype, bool gradient) {
  Bench b;
  const int64_t n = 512, v = 50257;
  const Tensor logits = b.random(dtype, {n, v}), targets = b.zeros(DType::i32, {n});
  const Tensor maximum = b.zeros(DType::f32, {n}), sum = b.zeros(DType::f32, {n}),
               target = b.zeros(DType::f32, {n});
  const Tensor lse = b.random(DType::f32, {n}), coefficient = b.random(DType::f32, {n});
  const Tensor dlogits = b.zeros(dtype, {n, v});
  for (auto _ : state) {
    if (gradient) {
      softmax_gradient(b.ctx, logits, targets, 0, lse, coefficient, dlogits);
    } else {
      softmax_statistics(b.ctx, logits, targets, 0, maximum, sum, target);
    }
  }
  report_bytes(state, double(logits.num_bytes()) * (gradient ? 2.0 : 1.0));
}

void adamw_benchmark(State& state, bool copies, DType moments, Rounding rounding) {
  Bench b;
  const int64_t n = 38597376;  // the embedding of GPT-2
  const Tensor g = b.random(DType::f32, {n}, 1e-3f), w = b.random(DType::f32, {n}),
               m = b.zeros(moments, {n});
  const Tensor v = b.zeros(moments, {n}), c = copies ? b.zeros(DType::bf16, {n}) : Tensor{};
  const AdamWState adamw{b.zeros(DType::f64, {1}), b.zeros(DType::i64, {1}),
                         b.zeros(DType::f64, {1})};
  begin_adamw_step(b.ctx, adamw);
  const AdamWOptions options{.lr = 1e-3f,
                             .beta1 = 0.9f,
                             .beta2 = 0.95f,
                             .eps = 1e-8f,
                             .weight_decay = 0.1f,
                             .clip_norm = 1,
                             .rounding = rounding};
  const AdamWList list = make_adamw_list(b.ctx, {{g, w, m, v, c}}, b.arena);
  for (auto _ : state) adamw_step(b.ctx, adamw, options, list);
  report_bytes(state, double(n) * double(12 + 4 * dtype_bytes(moments) + (copies ? 2 : 0)));
}

void sum_of_squares_benchmark(State& state) {
  Bench b;
  const int64_t n = int64_t(1) << 25;
  const Tensor x = b.random(DType::f32, {n}), sum = b.zeros(DType::f64, {1});
  const AdamWList list = make_adamw_list(b.ctx, {{x, x, x, x}}, b.arena);
  for (auto _ : state) sum_of_squares(b.ctx, list, sum);
  report_bytes(state, 4.0 * double(n));
}

void rope_benchmark(State& state, DType dtype) {
  Bench b;
  const Tensor x = b.random(dtype, {4096, 12, 64}), positions = b.zeros(DType::i32, {4096});
  for (int32_t i = 0; i < 4096; ++i) positions.ptr<int32_t>()[i] = i % 1024;
  const Tensor cos = b.random(DType::f32, {1024, 32}), sin = b.random(DType::f32, {1024, 32});
  for (auto _ : state) rope(b.ctx, x, positions, cos, sin, RopeDirection::forward);
  report_bytes(state, 2.0 * double(x.num_bytes()));
}

void embedding_benchmark(State& state, DType dtype, bool backward) {
  Bench b;
  const Tensor table = b.random(dtype, {50257, 768}), gradient = b.zeros(DType::f32, {50257, 768});
  const Tensor out = b.random(dtype, {4096, 768}), ids = b.zeros(DType::i32, {4096});
  for (int32_t i = 0; i < 4096; ++i) ids.ptr<int32_t>()[i] = int32_t(int64_t(i) * 7919 % 50257);
  for (auto _ : state) {
    if (backward) {
      embedding_backward(b.ctx, out, ids, 0, 50257, gradient);
    } else {
      embedding_forward(b.ctx, ids, table, 0, 50257, out);
    }
  }
  report_bytes(state,
               double(out.num_bytes()) + (backward ? 2.0 : 1.0) * 4096 * 768 * (backward ? 4 : 2));
}

template <class F>
void elementwise_benchmark(State& state, double bytes, const F& f) {
  Bench b;
  const int64_t n = int64_t(1) << 25;
  const Tensor x = b.random(DType::f32, {n}), y = b.random(DType::f32, {n}),
               z = b.zeros(DType::bf16, {n});
  for (auto _ : state) f(b, x, y, z);
  report_bytes(state, bytes * double(n));
}

// ---- Registration

void add_benchmark(const std::string& name, const std::function<void(State&)>& body) {
  benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->Unit(benchmark::kMillisecond);
}

void register_compute(DType dtype, const std::string& suffix) {
  for (const MatmulShape& s : kMatmulShapes) {
    const auto add_as = [&](const char* kind, MatmulFunction f) {
      add_benchmark(std::string(kind) + "/" + s.name + suffix,
                    [=](State& state) { matmul_benchmark(state, f, s, dtype); });
    };
    add_as("matmul", matmul);
    add_as("matmul_own", cpu::gemm);
    add_as("matmul_onednn", cpu::onednn_matmul);
  }
  for (const bool backward : {false, true}) {
    const std::string pass = backward ? "_backward" : "_forward";
    add_benchmark("attention" + pass + "/gpt2_4x1024" + suffix, [=](State& state) {
      attention_benchmark(state, dtype, 4, 1024, 12, 12, 64, backward);
    });
    add_benchmark("attention" + pass + "/gpt2_4x64" + suffix, [=](State& state) {
      attention_benchmark(state, dtype, 4, 64, 12, 12, 64, backward);
    });
    add_benchmark("attention" + pass + "/llama_1x4096_d128_gqa4" + suffix, [=](State& state) {
      attention_benchmark(state, dtype, 1, 4096, 8, 2, 128, backward);
    });
  }
  add_benchmark("attention_decode/4096_h32_g8_d64" + suffix,
                [=](State& state) { attention_decode_benchmark(state, dtype, 4096, 32, 8, 64); });
}

void register_passes(DType dtype, const std::string& suffix) {
  for (const bool backward : {false, true}) {
    const std::string pass = (backward ? "_backward" : "_forward") + suffix;
    add_benchmark("layer_norm" + pass,
                  [=](State& state) { layer_norm_benchmark(state, dtype, backward); });
    add_benchmark("rms_norm" + pass,
                  [=](State& state) { rms_norm_benchmark(state, dtype, backward); });
    add_benchmark("gelu_tanh" + pass,
                  [=](State& state) { gelu_benchmark(state, dtype, GeluKind::tanh, backward); });
    add_benchmark("gelu_erf" + pass,
                  [=](State& state) { gelu_benchmark(state, dtype, GeluKind::erf, backward); });
    add_benchmark("swiglu" + pass, [=](State& state) { swiglu_benchmark(state, dtype, backward); });
    add_benchmark("embedding" + pass,
                  [=](State& state) { embedding_benchmark(state, dtype, backward); });
  }
  add_benchmark("softmax_statistics" + suffix,
                [=](State& state) { softmax_benchmark(state, dtype, false); });
  add_benchmark("softmax_gradient" + suffix,
                [=](State& state) { softmax_benchmark(state, dtype, true); });
  add_benchmark("rope" + suffix, [=](State& state) { rope_benchmark(state, dtype); });
  // bf16 here: with a copy for computing.
  const bool copies = dtype == DType::bf16;
  add_benchmark("adamw" + suffix, [=](State& state) {
    adamw_benchmark(state, copies, DType::f32, Rounding::nearest);
  });
  add_benchmark("adamw_bf16_moments" + suffix, [=](State& state) {
    adamw_benchmark(state, copies, DType::bf16, Rounding::nearest);
  });
  add_benchmark("adamw_bf16_moments_stochastic" + suffix, [=](State& state) {
    adamw_benchmark(state, copies, DType::bf16, Rounding::stochastic);
  });
}

void register_elementwise() {
  using T = const Tensor&;
  const auto add_one = [](const char* name, double bytes, void (*f)(Bench&, T, T, T)) {
    add_benchmark(name, [=](State& state) { elementwise_benchmark(state, bytes, f); });
  };
  add_one("copy", 8, [](Bench& b, T x, T y, T) { convert(b.ctx, x, y); });
  add_one("convert_to_bf16", 6, [](Bench& b, T x, T, T z) { convert(b.ctx, x, z); });
  add_one("add", 12, [](Bench& b, T x, T y, T) { add(b.ctx, x, y, y); });
  add_one("fill_zero", 4, [](Bench& b, T, T y, T) { fill_zero(b.ctx, y); });
  add_one("find_non_finite", 4,
          [](Bench& b, T x, T, T) { benchmark::DoNotOptimize(find_non_finite(b.ctx, x)); });
  add_one("fill_normal", 4, [](Bench& b, T, T y, T) { fill_normal(b.ctx, y, 1, 0, 0, 1); });
  add_one("dropout", 8, [](Bench& b, T x, T y, T) { dropout(b.ctx, x, y, 0.1f, 1, 0); });
  add_one("bias_gradient", 4, [](Bench& b, T x, T y, T) {
    bias_gradient(b.ctx, x.view({x.num_elements() / 4096, 4096}), y.slice(0, 0, 4096));
  });
  add_benchmark("sum_of_squares", sum_of_squares_benchmark);
}

}  // namespace
}  // namespace forja

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  forja::register_elementwise();
  for (const forja::DType dtype : {forja::DType::f32, forja::DType::bf16}) {
    const std::string suffix = dtype == forja::DType::f32 ? "/fp32" : "/bf16";
    forja::register_passes(dtype, suffix);
    forja::register_compute(dtype, suffix);
  }
  benchmark::RunSpecifiedBenchmarks();
}
