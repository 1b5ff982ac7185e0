// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/attention.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "csrc/ops/cpu/parallel.h"
#include "csrc/ops/dispatch.h"

namespace forja::cpu {
namespace {

template <class T>
T* at(const Tensor& t, int64_t n, int64_t h) {
  return t.ptr<T>() + n * t.stride(0) + h * t.stride(1);
}

template <class T>
float dot(const T* a, const T* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += float(a[i]) * float(b[i]);
  return sum;
}

struct Range {
  int64_t begin, end;
};

Range visible(const int32_t* s, int64_t i, const AttentionOptions& o) {
  int64_t end = s[3], begin = 0;
  if (o.causal) end = std::min<int64_t>(end, i + s[3] - s[1] + 1);
  if (o.window > 0) begin = std::max<int64_t>(0, i + s[3] - s[1] + 1 - o.window);
  end = std::max<int64_t>(end, 0);
  return {std::min(begin, end), end};
}

}  // namespace

AttentionScratch attention_scratch(Arena&, const Tensor&, const Tensor&, AttentionPass) { return {}; }

void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& sequences, const Tensor& out,
                       const Tensor& lse, const AttentionOptions& o, const AttentionScratch&) {
  const int64_t heads = q.size(1), dim = q.size(2), group = heads / k.size(1);
  dispatch_float(q.dtype, [&]<class T>() {
    parallel_tasks(sequences.size(0) * heads, [&](int64_t task, int) {
      const int32_t* s = sequences.ptr<int32_t>() + task / heads * 4;
      const int64_t h = task % heads;
      std::vector<float> p(size_t(s[3]) + 1), acc(size_t(dim) + 1);
      for (int64_t i = 0; i < s[1]; ++i) {
        const Range r = visible(s, i, o);
        float m = -std::numeric_limits<float>::infinity(), sum = 0;
        for (int64_t j = r.begin; j < r.end; ++j) {
          p[j] = o.scale * dot(at<T>(q, s[0] + i, h), at<T>(k, s[2] + j, h / group), dim);
          m = std::max(m, p[j]);
        }
        std::fill(acc.begin(), acc.end(), 0.0f);
        for (int64_t j = r.begin; j < r.end; ++j) {
          const float e = std::exp(p[j] - m);
          sum += e;
          for (int64_t d = 0; d < dim; ++d) acc[d] += e * float(at<T>(v, s[2] + j, h / group)[d]);
        }
        for (int64_t d = 0; d < dim; ++d) at<T>(out, s[0] + i, h)[d] = T(sum > 0 ? acc[d] / sum : 0.0f);
        if (lse.defined()) lse.ptr<float>()[h * lse.stride(0) + s[0] + i] = m + std::log(sum);
      }
    });
  });
}

void attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                        const Tensor& lse, const Tensor& sequences, const Tensor& dq, const Tensor& dk,
                        const Tensor& dv, const AttentionOptions& o, const AttentionScratch&) {
  const int64_t groups = k.size(1), dim = q.size(2), group = q.size(1) / groups;
  dispatch_float(q.dtype, [&]<class T>() {
    parallel_tasks(sequences.size(0) * groups, [&](int64_t task, int) {
      const int32_t* s = sequences.ptr<int32_t>() + task / groups * 4;
      const int64_t g = task % groups;
      std::vector<float> gk(size_t(s[3]) * dim), gv(size_t(s[3]) * dim), gq(static_cast<size_t>(dim));
      for (int64_t h = g * group; h < (g + 1) * group; ++h) {
        for (int64_t i = 0; i < s[1]; ++i) {
          const Range r = visible(s, i, o);
          const T* qi = at<T>(q, s[0] + i, h);
          const T* doi = at<T>(dout, s[0] + i, h);
          const float delta = dot(doi, at<T>(out, s[0] + i, h), dim);
          const float l = lse.ptr<float>()[h * lse.stride(0) + s[0] + i];
          std::fill(gq.begin(), gq.end(), 0.0f);
          for (int64_t j = r.begin; j < r.end; ++j) {
            const T* kj = at<T>(k, s[2] + j, g);
            const float p = std::exp(o.scale * dot(qi, kj, dim) - l);
            const float ds = o.scale * p * (dot(doi, at<T>(v, s[2] + j, g), dim) - delta);
            for (int64_t d = 0; d < dim; ++d) {
              gv[j * dim + d] += p * float(doi[d]);
              gk[j * dim + d] += ds * float(qi[d]);
              gq[d] += ds * float(kj[d]);
            }
          }
          for (int64_t d = 0; d < dim; ++d) at<T>(dq, s[0] + i, h)[d] = T(gq[d]);
        }
      }
      for (int64_t j = 0; j < s[3]; ++j) {
        for (int64_t d = 0; d < dim; ++d) {
          at<T>(dk, s[2] + j, g)[d] = T(gk[j * dim + d]);
          at<T>(dv, s[2] + j, g)[d] = T(gv[j * dim + d]);
        }
      }
    });
  });
}

}  // namespace forja::cpu
