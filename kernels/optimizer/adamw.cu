// SPDX-License-Identifier: Apache-2.0
// A step's factors depend on numbers that only the device knows (the gradient norm, the updates
// that were not skipped), and need fp64 powers: one thread of each block computes them, once, and
// the block then takes chunks of the list (list.cuh). Each thread updates four elements at a time,
// in the order of operations of PyTorch: decay, moments, update. The fused multiply-adds are
// written out, as in the CPU's vectors.
//
// Bf16 moments are rounded when they are stored, to nearest or at random: one Philox call has the
// 16 bits of both moments of four elements, in words that depend on the elements' place in the full
// tensor. A group that does not begin at a multiple of four there, or is cut by the end of a row of
// its part, makes one call an element.
//
// Bound by memory. The floor, in bytes an element over the bandwidth: gradient 4, weight both ways
// 8, the bf16 copy 2 where there is one, and
//   fp32 moments   16: together 28, with the copy 30
//   bf16 moments    8: together 20, with the copy 22. Stochastic rounding moves no more; it adds
//                      some 25 integer instructions an element, while an H200's memory (4.8 TB/s
//                      for 132 multiprocessors of 128 lanes) leaves room for about a hundred.
#include "kernels/optimizer/adamw.h"

#include <algorithm>

#include "forja/base/philox.h"
#include "kernels/common/launch.h"
#include "kernels/optimizer/list.cuh"

namespace forja::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int N = 4;

struct Factors {
  float gradient_scale, decay, lr_decay, one_minus_beta1, one_minus_beta2;
  float inverse_sqrt_correction2, step_size;
};

struct Shared {
  SharedArray<Factors, 1> factors;
};

// Also false where the sum is not finite.
__device__ __forceinline__ bool is_accepted(const AdamWStep& step) {
  return *step.sum_of_squares <= *step.largest_sum;
}

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
  f.lr_decay = float(lr * double(s.weight_decay));
  f.one_minus_beta1 = float(1.0 - beta1);
  f.one_minus_beta2 = float(1.0 - beta2);
  f.inverse_sqrt_correction2 = float(1.0 / sqrt(1.0 - power(beta2, updates)));
  f.step_size = float(lr / (1.0 - power(beta1, updates)));
  return f;
}

// Of the elements [i, i + count) of a range: in the low half for the first moment, in the high half
// for the second.
__device__ __forceinline__ void rounding_words(const AdamWRange& range, uint64_t updates, int64_t i,
                                               int count, uint32_t (&words)[N]) {
  const int64_t element = range.elements.full(i);
  if (element % N == 0 && range.elements.run(i, N) == N) {
    const Philox4 four = philox(range.key, uint64_t(element / N), updates);
#pragma unroll
    for (int j = 0; j < N; ++j) words[j] = four.v[j];
    return;
  }
  for (int j = 0; j < count; ++j) {
    const int64_t e = range.elements.full(i + j);
    const Philox4 four = philox(range.key, uint64_t(e / N), updates);
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (e % N == k) words[j] = four.v[k];
  }
}

__global__ void begin_adamw_step_kernel(AdamWStep step) {
  if (thread_index() == 0 && is_accepted(step)) *step.num_updates += 1;
}

// T: of the moments.
template <class T, Rounding kRounding>
__global__ void __launch_bounds__(kThreads)
    adamw_step_kernel(AdamWStep step, AdamWSettings s, AdamWList list) {
  if (!is_accepted(step)) return;  // all threads
  const double sum_of_squares = *step.sum_of_squares;
  const int64_t updates = *step.num_updates;
  Factors& shared = shared_storage<Shared>().factors[0];
  if (thread_index() == 0) shared = factors_of(sum_of_squares, updates, s);
  sync_block();
  const Factors f = shared;
  for (int64_t index = blockIdx.x; index < list.num_chunks; index += gridDim.x) {
    const Chunk chunk = chunk_of(list, index);
    const AdamWRange& r = *chunk.range;
    T *first = static_cast<T*>(r.first_moment), *second = static_cast<T*>(r.second_moment);
    const float scaled = r.lr_scale == 1.0f ? f.decay : fmaf(-r.lr_scale, f.lr_decay, 1.0f);
    const float decay = r.decays ? scaled : 1.0f, step_size = r.lr_scale * f.step_size;
    const bool aligned = r.aligned;
    for (int64_t i = chunk.begin + thread_index() * N; i < chunk.end; i += kThreads * N) {
      const int count = clamp_count(chunk.end - i, N);
      float g[N], w[N], m[N], v[N];
      load_elements(r.gradient + i, count, aligned, g);
      load_elements(r.weight + i, count, aligned, w);
      load_elements(first + i, count, aligned, m);
      load_elements(second + i, count, aligned, v);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        g[j] *= f.gradient_scale;
        m[j] = fmaf(m[j], s.beta1, g[j] * f.one_minus_beta1);
        v[j] = fmaf(v[j], s.beta2, g[j] * g[j] * f.one_minus_beta2);
        const float denominator = fmaf(sqrtf(v[j]), f.inverse_sqrt_correction2, s.eps);
        w[j] = fmaf(-step_size, m[j] / denominator, w[j] * decay);
      }
      if constexpr (kRounding == Rounding::stochastic) {
        uint32_t words[N] = {};
        rounding_words(r, uint64_t(updates), i, count, words);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          m[j] = round_stochastically(m[j], words[j] & 0xffffu);
          v[j] = round_stochastically(v[j], words[j] >> 16);
        }
      }
      store_elements(first + i, count, aligned, m);
      store_elements(second + i, count, aligned, v);
      store_elements(r.weight + i, count, aligned, w);
      if (r.compute_weight) store_elements(r.compute_weight + i, count, aligned, w);
    }
  }
}

}  // namespace

void begin_adamw_step(const AdamWStep& step, KernelStream stream) {
  launch({"begin_adamw_step", 1, kWarp}, stream, begin_adamw_step_kernel, step);
}

void adamw_step(const AdamWStep& step, const AdamWSettings& settings, const AdamWList& list,
                KernelStream stream) {
  const auto start = [&]<class T, Rounding kRounding>() {
    const int64_t blocks = std::min(list.num_chunks, int64_t(8) * num_multiprocessors());
    launch({"adamw_step", unsigned(blocks), kThreads, int64_t(sizeof(Shared))}, stream,
           adamw_step_kernel<T, kRounding>, step, settings, list);
  };
  if (list.moment_dtype == DType::f32)
    start.operator()<float, Rounding::nearest>();
  else if (settings.rounding == Rounding::nearest)
    start.operator()<BFloat16, Rounding::nearest>();
  else
    start.operator()<BFloat16, Rounding::stochastic>();
}

}  // namespace forja::kernels
