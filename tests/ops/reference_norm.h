// SPDX-License-Identifier: Apache-2.0
// Both norms in fp64, rows one after the other.
#pragma once

#include <vector>

#include "tests/ops/reference.h"

namespace forja::testing {

struct NormReference {
  std::vector<Bounded> y, mean, rstd, dx, dw, db;
};

enum class NormKind { layer, rms };

// x [R, H], weight and bias [H] (bias empty: none), dy and residual gradient [R, H] (empty: none).
class NormOracle {
 public:
  NormOracle(NormKind kind, std::vector<double> x, std::vector<double> weight,
             std::vector<double> bias, double eps)
      : kind_(kind),
        x_(std::move(x)),
        w_(std::move(weight)),
        b_(std::move(bias)),
        eps_(eps),
        h_(w_.size()),
        rows_(x_.size() / h_) {}

  NormReference forward() {
    NormReference r;
    for (size_t i = 0; i < rows_; ++i) {
      const Row row = statistics(i);
      r.mean.push_back({row.mean, row.mean_error});
      r.rstd.push_back({row.rstd, row.rstd * row.rstd_relative});
      for (size_t c = 0; c < h_; ++c) {
        const double xhat = (x_[i * h_ + c] - row.mean) * row.rstd;
        const double value = xhat * w_[c] + (b_.empty() ? 0 : b_[c]);
        r.y.push_back({value, std::fabs(w_[c]) * xhat_error(row, xhat) +
                                  gamma(2) * (std::fabs(xhat * w_[c]) + std::fabs(value))});
      }
    }
    return r;
  }

  // dw, db: what was there before.
  void backward(NormReference& r, const std::vector<double>& dy,
                const std::vector<double>& residual, const std::vector<double>& dw,
                const std::vector<double>& db) {
    for (size_t c = 0; c < h_; ++c) {
      r.dw.push_back({dw[c], gamma(2) * std::fabs(dw[c])});
      r.db.push_back({db[c], gamma(2) * std::fabs(db[c])});
    }
    for (size_t i = 0; i < rows_; ++i) backward_row(r, i, dy, residual);
  }

 private:
  struct Row {
    double mean = 0, mean_error = 0, rstd = 0, rstd_relative = 0;
  };

  // The mean has the error of a sum of H; the variance that of H squares of deviations that are off
  // by the mean's error (2 |deviation| error) and one rounding; the root halves relative errors,
  // then three roundings.
  Row statistics(size_t i) const {
    Row row;
    const double h = double(h_);
    double size = 0, squares = 0, deviations = 0;
    for (size_t c = 0; c < h_ && kind_ == NormKind::layer; ++c) {
      row.mean += x_[i * h_ + c] / h;
      size += std::fabs(x_[i * h_ + c]) / h;
    }
    row.mean_error = gamma(h + 1) * size;
    for (size_t c = 0; c < h_; ++c) {
      const double d = x_[i * h_ + c] - row.mean;
      squares += d * d / h;
      deviations += std::fabs(d) / h;
    }
    row.rstd = 1 / std::sqrt(squares + eps_);
    const double error =
        2 * deviations * row.mean_error + row.mean_error * row.mean_error + gamma(h + 5) * squares;
    row.rstd_relative = error / (squares + eps_) / 2 + gamma(4);
    return row;
  }
  double xhat_error(const Row& row, double xhat) const {
    return row.mean_error * row.rstd + std::fabs(xhat) * (row.rstd_relative + gamma(3));
  }

  void backward_row(NormReference& r, size_t i, const std::vector<double>& dy,
                    const std::vector<double>& residual) {
    const Row row = statistics(i);
    const double h = double(h_);
    double mean_g = 0, mean_gx = 0, size_g = 0, size_gx = 0, error_gx = 0;
    for (size_t c = 0; c < h_; ++c) {
      const double xhat = (x_[i * h_ + c] - row.mean) * row.rstd, g = dy[i * h_ + c] * w_[c];
      if (kind_ == NormKind::layer) mean_g += g / h, size_g += std::fabs(g) / h;
      mean_gx += g * xhat / h;
      size_gx += std::fabs(g * xhat) / h;
      error_gx += std::fabs(g) * xhat_error(row, xhat) / h;
    }
    error_gx += gamma(h + 6) * size_gx;
    const double error_g = gamma(h + 3) * size_g;
    for (size_t c = 0; c < h_; ++c) {
      const size_t at = i * h_ + c;
      const double xhat = (x_[at] - row.mean) * row.rstd, g = dy[at] * w_[c],
                   e = xhat_error(row, xhat);
      const double inner = g - mean_g - xhat * mean_gx, extra = residual.empty() ? 0 : residual[at];
      const double inner_size = std::fabs(g) + std::fabs(mean_g) + std::fabs(xhat * mean_gx);
      const double inner_error =
          error_g + e * std::fabs(mean_gx) + std::fabs(xhat) * error_gx + gamma(5) * inner_size;
      const double value = inner * row.rstd + extra;
      // RMSNorm's rstd enters to the third power in one term.
      r.dx.push_back(
          {value, row.rstd * (inner_error + inner_size * 3 * row.rstd_relative) +
                      gamma(3) * (inner_size * row.rstd + std::fabs(value) + std::fabs(extra))});
      const double dw = dy[at] * xhat;
      r.dw[c].value += dw;
      r.dw[c].bound += std::fabs(dy[at]) * e + gamma(double(rows_) + 3) * std::fabs(dw);
      r.db[c].value += dy[at];
      r.db[c].bound += gamma(double(rows_) + 2) * std::fabs(dy[at]);
    }
  }

  NormKind kind_;
  std::vector<double> x_, w_, b_;
  double eps_;
  size_t h_, rows_;
};

}  // namespace forja::testing
