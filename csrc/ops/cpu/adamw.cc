// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/adamw.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "csrc/ops/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/adamw.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

#include "csrc/ops/cpu/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

// PyTorch's order: decay first, then the moments, then the update from them.
template <class T, bool kCompute, Rounding kRounding>
struct AdamWBody {
  AdamWFactors f;
  const float* gradient;
  float* weight;
  T *first_moment, *second_moment;
  BFloat16* compute_weight;
  const uint32_t* words;  // of the elements, long enough for whole vectors

  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto g = hn::Mul(A::get(gradient + i, n), set(f.gradient_scale));
    const auto m =
        hn::MulAdd(A::get(first_moment + i, n), set(f.beta1), hn::Mul(g, set(f.one_minus_beta1)));
    const auto v = hn::MulAdd(A::get(second_moment + i, n), set(f.beta2),
                              hn::Mul(hn::Mul(g, g), set(f.one_minus_beta2)));
    const auto denominator = hn::MulAdd(hn::Sqrt(v), set(f.inverse_sqrt_correction2), set(f.eps));
    const auto decayed = hn::Mul(A::get(weight + i, n), set(f.decay));
    const auto w = hn::NegMulAdd(set(f.step_size), hn::Div(m, denominator), decayed);
    if constexpr (kRounding == Rounding::stochastic) {
      const DU32 du;
      const auto random = hn::LoadU(du, words + i);
      A::put(round_at_random(m, hn::And(random, hn::Set(du, 0xffffu))), first_moment + i, n);
      A::put(round_at_random(v, hn::ShiftRight<16>(random)), second_moment + i, n);
    } else {
      A::put(m, first_moment + i, n);
      A::put(v, second_moment + i, n);
    }
    A::put(w, weight + i, n);
    if constexpr (kCompute) A::put(w, compute_weight + i, n);
  }
};

template <class T, bool kCompute, Rounding kRounding>
HWY_INLINE void adamw_of(const AdamWFactors& factors, const AdamWRange& r, int64_t begin,
                         int64_t end, const uint32_t* words) {
  AdamWBody<T, kCompute, kRounding> body{
      factors,
      r.gradient.ptr<float>() + begin,
      r.weight.ptr<float>() + begin,
      r.first_moment.ptr<T>() + begin,
      r.second_moment.ptr<T>() + begin,
      kCompute ? r.compute_weight.ptr<BFloat16>() + begin : nullptr,
      words};
  for_vectors(end - begin, body);
}

template <class T, Rounding kRounding>
HWY_INLINE void adamw_of(const AdamWFactors& f, const AdamWRange& r, int64_t begin, int64_t end,
                         const uint32_t* words = nullptr) {
  if (r.compute_weight.defined()) return adamw_of<T, true, kRounding>(f, r, begin, end, words);
  adamw_of<T, false, kRounding>(f, r, begin, end, words);
}

constexpr int64_t kWords = 1024;  // elements whose random words are made at a time

// The words of the elements [begin, end) of a range, at most kWords.
HWY_INLINE void rounding_words(const AdamWRange& r, uint64_t num_updates, int64_t begin,
                               int64_t end, uint32_t* words) {
  uint32_t quads[kWords + 8];
  for (int64_t i = begin; i < end;) {
    const int64_t first = r.elements.full(i), count = r.elements.run(i, end - i);
    philox_words(r.key, uint64_t(first / 4), num_updates, (first + count + 3) / 4 - first / 4,
                 quads);
    memcpy(words + (i - begin), quads + first % 4, size_t(count) * sizeof(uint32_t));
    i += count;
  }
}

void adamw_piece(const AdamWFactors& f, const AdamWRange& r, int64_t begin, int64_t end) {
  if (r.first_moment.dtype == DType::f32)
    return adamw_of<float, Rounding::nearest>(f, r, begin, end);
  if (f.rounding == Rounding::nearest)
    return adamw_of<BFloat16, Rounding::nearest>(f, r, begin, end);
  uint32_t words[kWords + hn::MaxLanes(DF())] = {};
  for (int64_t i = begin; i < end; i += kWords) {
    const int64_t last = std::min(end, i + kWords);
    rounding_words(r, f.num_updates, i, last, words);
    adamw_of<BFloat16, Rounding::stochastic>(f, r, i, last, words);
  }
}

double squares_of(const float* x, int64_t n) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> dh;
  const int64_t step = int64_t(hn::Lanes(dd));
  auto sum0 = hn::Zero(dd), sum1 = hn::Zero(dd);
  int64_t i = 0;
  for (; i + 2 * step <= n; i += 2 * step) {
    const auto a = hn::PromoteTo(dd, hn::LoadU(dh, x + i));
    const auto b = hn::PromoteTo(dd, hn::LoadU(dh, x + i + step));
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  double sum = hn::GetLane(hn::SumOfLanes(dd, hn::Add(sum0, sum1)));
  for (; i < n; ++i) sum += double(x[i]) * double(x[i]);
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(adamw_piece);
HWY_EXPORT(squares_of);

namespace {

constexpr int64_t kSumBlock = 65536;

// Also false where the sum is not finite.
bool is_accepted(const AdamWState& state) {
  return *state.sum_of_squares.ptr<double>() <= *state.largest_sum.ptr<double>();
}

}  // namespace

int64_t sum_blocks(const AdamWList& list) {
  int64_t largest = 0;
  for (const AdamWRange& r : list.ranges) largest = std::max(largest, r.gradient.num_elements());
  return (largest + kSumBlock - 1) / kSumBlock;
}

void sum_of_squares(const AdamWList& list, const Tensor& sum, const Tensor& partial) {
  double* sums = partial.ptr<double>();
  double total = 0;
  for (const AdamWRange& r : list.ranges) {
    if (!r.counts) continue;
    const float* x = r.gradient.ptr<float>();
    const int64_t n = r.gradient.num_elements();
    parallel_pieces(n, kSumBlock, [&](int64_t begin, int64_t end) {
      sums[begin / kSumBlock] = HWY_DYNAMIC_DISPATCH(squares_of)(x + begin, end - begin);
    });
    double of_range = 0;
    for (int64_t i = 0; i * kSumBlock < n; ++i) of_range += sums[i];
    total += of_range;
  }
  *sum.ptr<double>() = total;
}

void begin_adamw_step(const AdamWState& state) {
  if (is_accepted(state)) *state.num_updates.ptr<int64_t>() += 1;
}

void adamw_step(const AdamWState& state, const AdamWOptions& options, const AdamWList& list) {
  if (!is_accepted(state)) return;
  const double squares = *state.sum_of_squares.ptr<double>();
  const int64_t num_updates = *state.num_updates.ptr<int64_t>();
  const double beta1 = options.beta1, beta2 = options.beta2, lr = options.lr;
  double clip = 1.0;
  if (options.clip_norm > 0) clip = std::min(1.0, options.clip_norm / (std::sqrt(squares) + 1e-6));
  const float step_size = float(lr / (1.0 - std::pow(beta1, double(num_updates))));
  const double decay = lr * options.weight_decay;
  AdamWFactors factors = {
      .gradient_scale = float(clip),
      .decay = 1.0f,
      .beta1 = float(beta1),
      .beta2 = float(beta2),
      .one_minus_beta1 = float(1.0 - beta1),
      .one_minus_beta2 = float(1.0 - beta2),
      .inverse_sqrt_correction2 =
          float(1.0 / std::sqrt(1.0 - std::pow(beta2, double(num_updates)))),
      .eps = options.eps,
      .step_size = step_size,
      .rounding = options.rounding,
      .num_updates = uint64_t(num_updates),
  };
  for (const AdamWRange& r : list.ranges) {
    const float scaled =
        r.lr_scale == 1.0f ? float(1.0 - decay) : std::fma(-r.lr_scale, float(decay), 1.0f);
    factors.decay = r.decays ? scaled : 1.0f;
    factors.step_size = r.lr_scale * step_size;
    parallel_pieces(r.weight.num_elements(), kGrainElements, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(adamw_piece)(factors, r, begin, end);
    });
  }
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
