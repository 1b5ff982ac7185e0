// SPDX-License-Identifier: Apache-2.0
// Element e is kept where uniform_float(word e % 4 of counter e / 4) >= probability.
#include "csrc/ops/cpu/dropout.h"

#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "csrc/ops/cpu/dropout.cc"
#include "csrc/ops/cpu/highway.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "csrc/ops/cpu/vec-inl.h"

#include "csrc/ops/cpu/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forja::cpu {
namespace HWY_NAMESPACE {

template <class T>
struct DropoutBody {
  const T* x;
  T* y;
  const uint32_t* words;
  float probability, factor;
  template <class A>
  HWY_INLINE void run(int64_t i, int64_t n) {
    const DF df;
    // The words' buffer is long enough for whole vectors.
    const auto bits = hn::ShiftRight<8>(hn::LoadU(DU32(), words + i));
    const auto uniform =
        hn::Mul(hn::ConvertTo(df, hn::BitCast(DI32(), bits)), set(1.0f / 16777216.0f));
    const auto kept = hn::Mul(A::get(x + i, n), set(factor));
    A::put(hn::IfThenElseZero(hn::Ge(uniform, set(probability)), kept), y + i, n);
  }
};

void dropout_piece(const Tensor& x, const Tensor& y, float probability, uint64_t key,
                   const ElementMap& elements, int64_t begin, int64_t end) {
  constexpr int64_t kChunk = 1024;
  constexpr int64_t kSlack = 4 + int64_t(hn::MaxLanes(DF()));
  HWY_ALIGN uint32_t words[kChunk + 4 + kSlack];
  dispatch_float(x.dtype, [&]<class T>() {
    for (int64_t i = begin, n; i < end; i += n) {
      n = elements.run(i, std::min(kChunk, end - i));
      const int64_t element = elements.full(i);
      philox_words(key, uint64_t(element / 4), 0, (element + n + 3) / 4 - element / 4, words);
      DropoutBody<T> body{x.ptr<T>() + i, y.ptr<T>() + i, words + element % 4, probability,
                          1.0f / (1.0f - probability)};
      for_vectors(n, body);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace forja::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forja::cpu {

HWY_EXPORT(dropout_piece);

void dropout(const Tensor& x, const Tensor& y, float probability, uint64_t key,
             const ElementMap& elements) {
  parallel_pieces(x.num_elements(), kGrainElements, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(dropout_piece)(x, y, probability, key, elements, begin, end);
  });
}

}  // namespace forja::cpu
#endif  // HWY_ONCE
