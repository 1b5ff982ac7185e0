// SPDX-License-Identifier: Apache-2.0
// Attention in fp64, straight from the definition.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "forja/ops/attention.h"
#include "tests/ops/reference.h"

namespace forja::testing {

struct AttentionReference {
  std::vector<Bounded> out, lse, dq, dk, dv;
};

// Legend as in ops/attention.h. With dout (its values; empty: forward only) also the gradients;
// they start from `out` and `lse` as the op stored them (their rounding is part of the op's
// contract, not of the gradient's error).
class AttentionOracle {
 public:
  AttentionOracle(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& sequences,
                  const AttentionOptions& options)
      : q_(to_doubles(q)),
        k_(to_doubles(k)),
        v_(to_doubles(v)),
        sequences_(to_doubles(sequences)),
        o_(options),
        heads_(q.size(1)),
        key_heads_(k.size(1)),
        dim_(q.size(2)),
        queries_(q.size(0)),
        keys_(k.size(0)) {}

  AttentionReference forward() {
    AttentionReference r;
    r.out.assign(q_.size(), {});
    r.lse.assign(size_t(heads_ * queries_), {});
    for_rows([&](int64_t n, int64_t h, int64_t k0, int64_t first, int64_t end) {
      forward_row(r, n, h, k0, first, end);
    });
    return r;
  }

  void backward(AttentionReference& r, const Tensor& dout, const Tensor& out) {
    dout_ = to_doubles(dout);
    out_ = to_doubles(out);
    r.dq.assign(q_.size(), {});
    r.dk.assign(k_.size(), {});
    r.dv.assign(k_.size(), {});
    for_rows([&](int64_t n, int64_t h, int64_t k0, int64_t first, int64_t end) {
      backward_row(r, n, h, k0, first, end);
    });
  }

 private:
  template <class F>
  void for_rows(const F& f) {
    for (size_t s = 0; s < sequences_.size(); s += 4) {
      const int64_t q0 = int64_t(sequences_[s]), nq = int64_t(sequences_[s + 1]);
      const int64_t k0 = int64_t(sequences_[s + 2]), nk = int64_t(sequences_[s + 3]);
      for (int64_t i = 0; i < nq; ++i) {
        int64_t first = 0, end = nk;
        if (o_.causal) end = std::clamp<int64_t>(i + nk - nq + 1, 0, nk);
        if (o_.window > 0) first = std::clamp<int64_t>(end - o_.window, 0, end);
        for (int64_t h = 0; h < heads_; ++h) f(q0 + i, h, k0, first, end);
      }
    }
  }
  size_t q_at(int64_t n, int64_t h, int64_t d) const { return size_t((n * heads_ + h) * dim_ + d); }
  size_t k_at(int64_t m, int64_t h, int64_t d) const {
    return size_t((m * key_heads_ + h / (heads_ / key_heads_)) * dim_ + d);
  }

  // Scaled scores of a row; score_error_ bounds their error: the scaled query, then D products.
  std::vector<double> scores(int64_t n, int64_t h, int64_t k0, int64_t first, int64_t end) {
    std::vector<double> s;
    score_error_ = 0;
    for (int64_t j = first; j < end; ++j) {
      double sum = 0, size = 0;
      for (int64_t d = 0; d < dim_; ++d) {
        const double product = o_.scale * q_[q_at(n, h, d)] * k_[k_at(k0 + j, h, d)];
        sum += product;
        size += std::fabs(product);
      }
      s.push_back(sum);
      score_error_ = std::max(score_error_, gamma(double(dim_) + 4) * size);
    }
    return s;
  }

  void forward_row(AttentionReference& r, int64_t n, int64_t h, int64_t k0, int64_t first,
                   int64_t end) {
    Bounded& lse = r.lse[size_t(h * queries_ + n)];
    lse.value = -std::numeric_limits<double>::infinity();
    if (first >= end) return;
    const std::vector<double> s = scores(n, h, k0, first, end);
    const double m = *std::max_element(s.begin(), s.end());
    double total = 0, largest = 0;
    for (double x : s) total += std::exp(x - m);
    for (double x : s) largest = std::max(largest, std::fabs(x));
    lse.value = m + std::log(total);
    // Each probability: error of the score and of the maximum, rounding of their difference, exp;
    // each rescaling of a block of keys rounds again; the sum has as many terms as keys.
    const double count = double(end - first);
    const double relative =
        2 * score_error_ + gamma(4) * largest + kExpError * (2 + count / 32) + gamma(count + 8);
    lse.bound = relative + gamma(4) * std::fabs(lse.value);
    for (int64_t d = 0; d < dim_; ++d) {
      Bounded& out = r.out[q_at(n, h, d)];
      double size = 0;
      for (size_t j = 0; j < s.size(); ++j) {
        const double p = std::exp(s[j] - lse.value), v = v_[k_at(k0 + first + int64_t(j), h, d)];
        out.value += p * v;
        size += p * std::fabs(v);
      }
      out.bound = size * (2 * relative + gamma(count + 8));
    }
  }

  void backward_row(AttentionReference& r, int64_t n, int64_t h, int64_t k0, int64_t first,
                    int64_t end) {
    if (first >= end) return;
    const std::vector<double> s = scores(n, h, k0, first, end);
    const Bounded lse = r.lse[size_t(h * queries_ + n)];
    double delta = 0, delta_size = 0, largest = 0;
    for (int64_t d = 0; d < dim_; ++d) {
      delta += dout_[q_at(n, h, d)] * out_[q_at(n, h, d)];
      delta_size += std::fabs(dout_[q_at(n, h, d)] * out_[q_at(n, h, d)]);
    }
    for (double x : s) largest = std::max(largest, std::fabs(x));
    const double count = double(end - first), rows = double(queries_);
    const double relative =
        score_error_ + lse.bound + gamma(6) * (largest + std::fabs(lse.value)) + kExpError;
    for (size_t j = 0; j < s.size(); ++j) {
      const int64_t m = k0 + first + int64_t(j);
      const double p = std::exp(s[j] - lse.value);
      double dp = 0, dp_size = 0;
      for (int64_t d = 0; d < dim_; ++d) {
        dp += dout_[q_at(n, h, d)] * v_[k_at(m, h, d)];
        dp_size += std::fabs(dout_[q_at(n, h, d)] * v_[k_at(m, h, d)]);
      }
      const double ds = p * (dp - delta);
      const double ds_error =
          p * (relative * std::fabs(dp - delta) + gamma(double(dim_) + 4) * (dp_size + delta_size));
      for (int64_t d = 0; d < dim_; ++d) {
        const double q = q_[q_at(n, h, d)], k = k_[k_at(m, h, d)], g = dout_[q_at(n, h, d)];
        add(r.dq[q_at(n, h, d)], o_.scale * ds * k, o_.scale * std::fabs(k) * ds_error, count + 8);
        add(r.dk[k_at(m, h, d)], o_.scale * ds * q, o_.scale * std::fabs(q) * ds_error, rows + 8);
        add(r.dv[k_at(m, h, d)], p * g, p * std::fabs(g) * relative, rows + 8);
      }
    }
  }
  // One term of a sum of `terms`.
  static void add(Bounded& sum, double term, double term_error, double terms) {
    sum.value += term;
    sum.bound += term_error + gamma(terms) * std::fabs(term);
  }

  std::vector<double> q_, k_, v_, sequences_, dout_, out_;
  AttentionOptions o_;
  int64_t heads_, key_heads_, dim_, queries_, keys_;
  double score_error_ = 0;
};

}  // namespace forja::testing
