// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/adamw.h"

#include <cmath>

#include "csrc/ops/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/adamw.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

// PyTorch's order: decay first, then the moments, then the update from them.
template <bool kCompute>
struct AdamWBody {
  AdamWFactors f;
  AdamWPointers p;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const auto g = hn::Mul(A::get(p.gradient + i, n), set(f.gradient_scale));
    const auto m =
        hn::MulAdd(A::get(p.first_moment + i, n), set(f.beta1), hn::Mul(g, set(f.one_minus_beta1)));
    const auto v = hn::MulAdd(A::get(p.second_moment + i, n), set(f.beta2),
                              hn::Mul(hn::Mul(g, g), set(f.one_minus_beta2)));
    const auto denominator = hn::MulAdd(hn::Sqrt(v), set(f.inverse_sqrt_correction2), set(f.eps));
    const auto decayed = hn::Mul(A::get(p.weight + i, n), set(f.decay));
    const auto w = hn::NegMulAdd(set(f.step_size), hn::Div(m, denominator), decayed);
    A::put(m, p.first_moment + i, n);
    A::put(v, p.second_moment + i, n);
    A::put(w, p.weight + i, n);
    if constexpr (kCompute) A::put(w, p.compute_weight + i, n);
  }
};

template <bool kCompute>
HWY_INLINE void adamw_of(const AdamWFactors& factors, const AdamWPointers& p, int64_t begin,
                         int64_t end) {
  const AdamWPointers moved = {p.gradient + begin, p.weight + begin, p.first_moment + begin,
                               p.second_moment + begin,
                               kCompute ? p.compute_weight + begin : nullptr};
  AdamWBody<kCompute> body{factors, moved};
  for_vectors(end - begin, body);
}

void adamw_piece(const AdamWFactors& factors, const AdamWPointers& p, int64_t begin, int64_t end) {
  if (p.compute_weight) return adamw_of<true>(factors, p, begin, end);
  adamw_of<false>(factors, p, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(adamw_piece);

void begin_adamw_step(const AdamWState& state) {
  if (std::isfinite(*state.sum_of_squares.ptr<double>())) *state.num_updates.ptr<int64_t>() += 1;
}

void adamw_step(const AdamWState& state, const AdamWOptions& options, const Tensor& gradient,
                const Tensor& weight, const Tensor& first_moment, const Tensor& second_moment,
                const Tensor& compute_weight) {
  const double sum_of_squares = *state.sum_of_squares.ptr<double>();
  if (!std::isfinite(sum_of_squares)) return;
  const double updates = double(*state.num_updates.ptr<int64_t>());
  const double beta1 = options.beta1, beta2 = options.beta2, lr = options.lr;
  double clip = 1.0;
  if (options.clip_norm > 0)
    clip = std::min(1.0, options.clip_norm / (std::sqrt(sum_of_squares) + 1e-6));
  const AdamWFactors factors = {
      .gradient_scale = float(clip),
      .decay = float(1.0 - lr * options.weight_decay),
      .beta1 = float(beta1),
      .beta2 = float(beta2),
      .one_minus_beta1 = float(1.0 - beta1),
      .one_minus_beta2 = float(1.0 - beta2),
      .inverse_sqrt_correction2 = float(1.0 / std::sqrt(1.0 - std::pow(beta2, updates))),
      .eps = options.eps,
      .step_size = float(lr / (1.0 - std::pow(beta1, updates))),
  };
  const AdamWPointers pointers = {
      gradient.ptr<float>(), weight.ptr<float>(), first_moment.ptr<float>(),
      second_moment.ptr<float>(),
      compute_weight.defined() ? compute_weight.ptr<BFloat16>() : nullptr};
  parallel_pieces(weight.num_elements(), kGrainElements, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(adamw_piece)(factors, pointers, begin, end);
  });
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
