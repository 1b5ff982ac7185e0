// SPDX-License-Identifier: Apache-2.0
// Which tokens each training sample is made of: a pure function of (seed, sample index), without
// tables that grow with the data. Any number of ranks, and a run that resumes, see the same
// samples.
//
// A source of N tokens has n = (N - 1) / T samples an epoch: sample i is tokens [i T, i T + T], its
// last token shared with the next sample, as the target of one and the first input of the other.
// Every epoch visits every sample once, in its own random order. A source may also say itself how
// many samples it has, of whatever tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace forja {

// A random permutation of [0, n), one for every key, evaluated point by point: a Feistel network on
// the smallest power of two >= n, walked along its cycle until the result is below n (fewer than 2
// steps on average). Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA
// 2002; round function Philox.
class Permutation {
 public:
  Permutation(uint64_t key, int64_t n);
  int64_t operator()(int64_t index) const;  // 0 <= index < n

 private:
  uint64_t encrypt(uint64_t value) const;

  uint64_t key_;
  int64_t n_;
  int low_bits_ = 0, high_bits_ = 0;
};

// Divides the samples among sources by weight. Slots repeat with a period of at most kMaxPeriod; in
// each period a source of weight w (of a sum of 1) has period * w slots, rounded by largest
// remainders, at least one, spread evenly. So its share is exact to 1 / kMaxPeriod, and exact where
// the weights have at most four decimals.
class Blend {
 public:
  static constexpr int64_t kMaxPeriod = 10000;

  // Positive weights of any sum.
  explicit Blend(const std::vector<double>& weights);

  struct Draw {
    int64_t source;
    int64_t index;  // the source's index-th sample
  };
  Draw operator()(int64_t sample) const;
  int64_t period() const { return int64_t(slots_.size()); }
  // Slots of a source in a period.
  int64_t quota(int64_t source) const { return quotas_[size_t(source)]; }

 private:
  struct Slot {
    int32_t source;
    int32_t index;  // within the period
  };
  std::vector<int64_t> quotas_;
  std::vector<Slot> slots_;
};

enum class SampleOrder {
  shuffled,    // training
  sequential,  // validation
};

struct SampleSource {
  int64_t num_tokens = 0;
  double weight = 1.0;
  int64_t num_samples = 0;  // 0: as many as its tokens make
};

class Sampler {
 public:
  // T = sequence_length. Throws bad_input for a weight that is not positive, or a source smaller
  // than one sample (its number says which).
  Sampler(std::vector<SampleSource> sources, int64_t sequence_length, uint64_t seed,
          SampleOrder order);

  struct Sample {
    int64_t source;
    int64_t epoch;        // of the source
    int64_t index;        // of the sample in the source
    int64_t first_token;  // of tokens, the sample is [first_token, first_token + T] of the source
  };
  Sample operator()(int64_t sample) const;  // sample >= 0

  int64_t samples_per_epoch(int64_t source) const {
    const SampleSource& s = sources_[size_t(source)];
    return s.num_samples > 0 ? s.num_samples : (s.num_tokens - 1) / sequence_length_;
  }

 private:
  std::vector<SampleSource> sources_;
  int64_t sequence_length_;
  uint64_t seed_;
  SampleOrder order_;
  Blend blend_;
};

}  // namespace forja
