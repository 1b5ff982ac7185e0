// SPDX-License-Identifier: Apache-2.0
// A step's factors depend on numbers that only the device knows (the gradient norm, the updates
// that were not skipped), and need fp64 powers: one thread of each block computes them, in the time
// in which the block's first loads are on their way. Then each thread updates four elements at a
// time, in the order of operations of PyTorch: decay, moments, update. Bound by memory: the floor
// is 28 bytes an element (gradient, and weight and two moments both ways), 30 with the bf16 copy,
// over the bandwidth.
#include "kernels/optimizer/adamw.h"

#include <algorithm>

#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int N = 4;

struct Factors {
  float gradient_scale, decay, one_minus_beta1, one_minus_beta2;
  float inverse_sqrt_correction2, step_size;
};

struct Shared {
  SharedArray<Factors, 1> factors;
};

__device__ __forceinline__ bool is_finite(double x) { return x - x == 0.0; }

// x^n, n >= 0.
__device__ __forceinline__ double power(double x, int64_t n) {
  double result = 1.0;
  for (; n > 0; n /= 2, x *= x)
    if (n % 2 != 0) result *= x;
  return result;
}

__device__ __forceinline__ Factors factors_of(double sum_of_squares, int64_t updates,
                                              const AdamWSettings& s) {
  double clip = 1.0;
  if (s.clip_norm > 0) {
    const double ratio = double(s.clip_norm) / (sqrt(sum_of_squares) + 1e-6);
    clip = ratio < 1.0 ? ratio : 1.0;
  }
  const double beta1 = s.beta1, beta2 = s.beta2, lr = s.lr;
  Factors f;
  f.gradient_scale = float(clip);
  f.decay = float(1.0 - lr * double(s.weight_decay));
  f.one_minus_beta1 = float(1.0 - beta1);
  f.one_minus_beta2 = float(1.0 - beta2);
  f.inverse_sqrt_correction2 = float(1.0 / sqrt(1.0 - power(beta2, updates)));
  f.step_size = float(lr / (1.0 - power(beta1, updates)));
  return f;
}

__global__ void begin_adamw_step_kernel(AdamWStep step) {
  if (thread_index() == 0 && is_finite(*step.sum_of_squares)) *step.num_updates += 1;
}

__global__ void __launch_bounds__(kThreads)
    adamw_step_kernel(AdamWStep step, AdamWSettings s, AdamWTensors t, bool aligned) {
  const double sum_of_squares = *step.sum_of_squares;
  if (!is_finite(sum_of_squares)) return;  // all threads
  Factors& shared = shared_storage<Shared>().factors[0];
  if (thread_index() == 0) shared = factors_of(sum_of_squares, *step.num_updates, s);
  sync_block();
  const Factors f = shared;
  for (int64_t i = (int64_t(blockIdx.x) * kThreads + thread_index()) * N; i < t.count;
       i += int64_t(gridDim.x) * kThreads * N) {
    const int count = clamp_count(t.count - i, N);
    float g[N], w[N], m[N], v[N];
    load_elements(t.gradient + i, count, aligned, g);
    load_elements(t.weight + i, count, aligned, w);
    load_elements(t.first_moment + i, count, aligned, m);
    load_elements(t.second_moment + i, count, aligned, v);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      g[j] *= f.gradient_scale;
      m[j] = m[j] * s.beta1 + g[j] * f.one_minus_beta1;
      v[j] = v[j] * s.beta2 + g[j] * g[j] * f.one_minus_beta2;
      const float denominator = sqrtf(v[j]) * f.inverse_sqrt_correction2 + s.eps;
      w[j] = w[j] * f.decay - f.step_size * (m[j] / denominator);
    }
    store_elements(t.first_moment + i, count, aligned, m);
    store_elements(t.second_moment + i, count, aligned, v);
    store_elements(t.weight + i, count, aligned, w);
    if (t.compute_weight) store_elements(t.compute_weight + i, count, aligned, w);
  }
}

}  // namespace

void begin_adamw_step(const AdamWStep& step, KernelStream stream) {
  launch({"begin_adamw_step", 1, kWarp}, stream, begin_adamw_step_kernel, step);
}

void adamw_step(const AdamWStep& step, const AdamWSettings& settings, const AdamWTensors& t,
                KernelStream stream) {
  const int64_t blocks =
      std::min(ceil_div<int64_t>(t.count, kThreads * N), int64_t(8) * num_multiprocessors());
  launch({"adamw_step", unsigned(blocks), kThreads, int64_t(sizeof(Shared))}, stream,
         adamw_step_kernel, step, settings, t,
         all_aligned16(t.gradient, t.weight, t.first_moment, t.second_moment, t.compute_weight));
}

}  // namespace forja::kernels
