// SPDX-License-Identifier: Apache-2.0
#include "forja/data/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "forja/base/error.h"
#include "forja/base/philox.h"

namespace forja {
namespace {

constexpr int kRounds = 8;
constexpr uint64_t kShuffleKey =
    0x646174612d6f7264ull;  // keeps these numbers apart from every other use of the seed

std::vector<double> weights_of(const std::vector<SampleSource>& sources) {
  std::vector<double> weights;
  for (const SampleSource& source : sources) weights.push_back(source.weight);
  return weights;
}

// Slots of each source in a period, by largest remainders.
std::vector<int64_t> quotas_of(const std::vector<double>& weights) {
  if (weights.empty()) fail_input("there is no data source");
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] > 0.0) || !std::isfinite(weights[i])) {
      fail_input("data source {} has the weight {}: expected greater than 0", i, weights[i]);
    }
  }
  const int64_t n = int64_t(weights.size());
  if (n > Blend::kMaxPeriod)
    fail_input("{} data sources: at most {} are possible", n, Blend::kMaxPeriod);
  if (n == 1) return {1};
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> quotas;
  std::vector<double> remainders;
  for (double weight : weights) {
    const double exact = weight / sum * double(Blend::kMaxPeriod);
    quotas.push_back(std::max<int64_t>(1, int64_t(exact)));
    remainders.push_back(exact - double(quotas.back()));
  }
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  int64_t missing = Blend::kMaxPeriod - std::accumulate(quotas.begin(), quotas.end(), int64_t(0));
  for (size_t i = 0; missing > 0; i = (i + 1) % order.size(), --missing) ++quotas[order[i]];
  for (; missing < 0; ++missing) --*std::max_element(quotas.begin(), quotas.end());
  const int64_t common = std::reduce(quotas.begin(), quotas.end(), int64_t(0),
                                     [](int64_t a, int64_t b) { return std::gcd(a, b); });
  for (int64_t& quota : quotas) quota /= common;
  return quotas;
}

}  // namespace

Permutation::Permutation(uint64_t key, int64_t n) : key_(key), n_(n) {
  FORJA_CHECK(n > 0, "a permutation of {} elements", n);
  const int bits = n > 1 ? std::bit_width(uint64_t(n - 1)) : 0;
  low_bits_ = bits / 2;
  high_bits_ = bits - low_bits_;
}

// Alternating halves of possibly different widths: each round changes one half by a function of the
// other.
uint64_t Permutation::encrypt(uint64_t value) const {
  const uint64_t low_mask = (uint64_t(1) << low_bits_) - 1,
                 high_mask = (uint64_t(1) << high_bits_) - 1;
  uint64_t low = value & low_mask, high = value >> low_bits_;
  for (uint64_t round = 0; round < kRounds; round += 2) {
    const Philox4 a = philox(key_, high, round);
    low ^= (a.v[0] | uint64_t(a.v[1]) << 32) & low_mask;
    const Philox4 b = philox(key_, low, round + 1);
    high ^= (b.v[0] | uint64_t(b.v[1]) << 32) & high_mask;
  }
  return high << low_bits_ | low;
}

int64_t Permutation::operator()(int64_t index) const {
  uint64_t value = uint64_t(index);
  do {
    value = encrypt(value);
  } while (value >= uint64_t(n_));
  return int64_t(value);
}

Blend::Blend(const std::vector<double>& weights) : quotas_(quotas_of(weights)) {
  const int64_t period = std::accumulate(quotas_.begin(), quotas_.end(), int64_t(0));
  for (size_t source = 0; source < quotas_.size(); ++source) {
    for (int64_t i = 0; i < quotas_[source]; ++i) slots_.push_back({int32_t(source), int32_t(i)});
  }
  // Slot i of a source belongs at (2 i + 1) / (2 quota) of the period; compared as exact fractions.
  std::stable_sort(slots_.begin(), slots_.end(), [&](const Slot& a, const Slot& b) {
    return (2 * int64_t(a.index) + 1) * quotas_[size_t(b.source)] <
           (2 * int64_t(b.index) + 1) * quotas_[size_t(a.source)];
  });
  FORJA_CHECK(int64_t(slots_.size()) == period, "{} slots of {}", slots_.size(), period);
}

Blend::Draw Blend::operator()(int64_t sample) const {
  const int64_t turn = sample / period();
  const Slot& slot = slots_[size_t(sample % period())];
  return {slot.source, turn * quotas_[size_t(slot.source)] + slot.index};
}

Sampler::Sampler(std::vector<SampleSource> sources, int64_t sequence_length, uint64_t seed,
                 SampleOrder order)
    : sources_(std::move(sources)),
      sequence_length_(sequence_length),
      seed_(seed),
      order_(order),
      blend_(weights_of(sources_)) {
  if (sequence_length < 1)
    fail_input("a sequence length of {}: expected 1 or more", sequence_length);
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i].num_samples == 0 && sources_[i].num_tokens <= sequence_length) {
      fail_input("data source {} has {} tokens, one sample needs sequence_length + 1 = {}", i,
                 sources_[i].num_tokens, sequence_length + 1);
    }
  }
}

Sampler::Sample Sampler::operator()(int64_t sample) const {
  FORJA_CHECK(sample >= 0, "sample {}", sample);
  const Blend::Draw draw = blend_(sample);
  const int64_t n = samples_per_epoch(draw.source);
  const int64_t epoch = draw.index / n;
  int64_t index = draw.index % n;
  if (order_ == SampleOrder::shuffled) {
    const uint64_t key =
        mix_key(mix_key(mix_key(seed_, kShuffleKey), uint64_t(draw.source)), uint64_t(epoch));
    index = Permutation(key, n)(index);
  }
  return {draw.source, epoch, index, index * sequence_length_};
}

}  // namespace forja
