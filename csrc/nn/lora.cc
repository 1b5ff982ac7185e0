// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/lora.h"

#include <cmath>

#include "forja/base/error.h"
#include "forja/ops/dropout.h"
#include "forja/ops/elementwise.h"
#include "forja/ops/matmul.h"

namespace forja {
namespace {

constexpr const char* kAll = "all-linear";

// Where the local rows of a placed parameter lie that are rows [begin, end) of the full one's
// groups; groups do not straddle segments.
struct LocalRows {
  int64_t begin, end;
};
LocalRows local_rows(const LocalBlock& block, int64_t begin, int64_t end) {
  LocalRows out{-1, -1};
  for (const LocalBlock::Rows& r : block.row_ranges) {
    if (r.full < begin || r.full >= end) continue;
    if (out.begin < 0) out.begin = r.local;
    out.end = r.local + r.count;
  }
  return out;
}

// The row groups that lie in rows [begin, end).
std::vector<RowGroup> groups_in(const std::vector<RowGroup>& groups, int64_t begin, int64_t end) {
  std::vector<RowGroup> out;
  int64_t at = 0;
  for (const RowGroup& group : groups) {
    if (at >= begin && at < end) out.push_back(group);
    at += group.rows;
  }
  return out;
}

}  // namespace

double LoraConfig::scale() const {
  return alpha / (rslora ? std::sqrt(double(rank)) : double(rank));
}

bool LoraConfig::wants(const std::string& hf_name) const {
  for (const std::string& target : targets) {
    if (target == kAll || hf_name == target || hf_name.ends_with("." + target)) return true;
  }
  return false;
}

void LoraConfig::visit(ConfigVisitor& v) {
  v.field("rank", rank, "Of the adapters; 0: none, the whole model is trained.",
          not_negative<int64_t>());
  v.field("alpha", alpha, "What the adapters add is scaled by alpha / rank.", positive<double>());
  v.field("dropout", dropout, "Of the adapters' input, in training.", fraction());
  v.field("targets", targets,
          "Linear layers that get one, by the end of their Hugging Face name (q_proj, "
          "mlp.down_proj), or all-linear.");
  v.field("rslora", rslora, "Scale by alpha / sqrt(rank) instead.");
}

bool LoraAdapter::is_wanted(const LoraConfig& config, const std::vector<HfSegment>& segments) {
  for (const HfSegment& s : segments)
    if (config.is_on() && config.wants(s.name)) return true;
  return false;
}

LoraAdapter::LoraAdapter(ParameterStore& store, const AdaptedLinear& linear,
                         const LoraConfig& config)
    : rank_(config.rank), scale_(float(config.scale())), dropout_(float(config.dropout)) {
  const ParameterSpec& weight = linear.weight->spec;
  const bool by_outputs = weight.placement == TensorPlacement::rows;
  ParameterSpec a, b;
  a.name = linear.name + ".lora_a";
  b.name = linear.name + ".lora_b";
  a.adapter = b.adapter = true;
  a.stage = b.stage = weight.stage;
  // The variance of the uniform numbers that PEFT draws.
  a.init_std = float(1.0 / std::sqrt(3.0 * double(weight.columns())));
  b.init = InitKind::zeros;
  ParameterSpec &divided = by_outputs ? b : a, &whole = by_outputs ? a : b;
  divided.placement = weight.placement;
  divided.unit = weight.unit;
  whole.kind = UnitKind::replicated;
  int64_t outputs = 0, row = 0;
  for (const HfSegment& s : linear.segments) {
    const int64_t end = row + s.rows;
    if (config.wants(s.name)) {
      a.segments.push_back({s.name + ".lora_A.weight", rank_});
      b.segments.push_back({s.name + ".lora_B.weight", s.rows});
      const LocalRows y = local_rows(linear.weight->block, row, end);
      parts_.push_back({y.begin, y.end, 0});
      if (by_outputs)
        for (const RowGroup& g : groups_in(weight.row_groups, row, end)) b.row_groups.push_back(g);
      outputs += s.rows;
    }
    row = end;
  }
  a.shape = {int64_t(parts_.size()) * rank_, weight.columns()};
  b.shape = {outputs, rank_};
  a_ = store.declare(a);
  b_ = store.declare(b);
  int64_t local = 0;
  for (Part& part : parts_) {
    part.b_begin = local;
    local += part.y_end - part.y_begin;
  }
  FORJA_CHECK(local == b_->block.rows, "{} has {} rows here, its segments {}", b.name,
              b_->block.rows, local);
}

Tensor LoraAdapter::columns_of(const Tensor& inner, size_t part) const {
  return inner.slice(1, int64_t(part) * rank_, int64_t(part + 1) * rank_);
}

Tensor LoraAdapter::rows_of(const Tensor& b, size_t part) const {
  const Part& p = parts_[part];
  return b.slice(0, p.b_begin, p.b_begin + p.y_end - p.y_begin);
}

ElementMap LoraAdapter::elements_of(const AdapterRows& rows) const {
  const LocalBlock& block = a_->block;
  const int64_t first = rows.first_row * block.full_columns + block.first_column;
  if (block.columns == block.full_columns) return {first};
  return {first, 0, block.columns, block.full_columns};
}

// From the workspace where anything is dropped.
Tensor LoraAdapter::dropped(const Context& ctx, const Tensor& x, const AdapterRows& rows) const {
  if (!drops(rows)) return x;
  const Tensor out = allocate(*ctx.workspace, x.dtype, {x.size(0), x.size(1)});
  dropout(ctx, x, out, dropout_, rows.dropout_key, elements_of(rows));
  return out;
}

// s dy B [N, S R], from the workspace.
Tensor LoraAdapter::inner_gradient(const Context& ctx, const Tensor& dy) const {
  const Tensor inner =
      allocate(*ctx.workspace, dy.dtype, {dy.size(0), int64_t(parts_.size()) * rank_});
  for (size_t i = 0; i < parts_.size(); ++i) {
    matmul(ctx, dy.slice(1, parts_[i].y_begin, parts_[i].y_end), rows_of(b_->weight, i),
           columns_of(inner, i));
  }
  scale(ctx, inner, scale_, inner);
  return inner;
}

void LoraAdapter::forward(const Context& ctx, const Tensor& x, const Tensor& y,
                          const AdapterRows& rows) const {
  if (!rows.on) return;
  ArenaScope scope(*ctx.workspace);
  const Tensor inner =
      allocate(*ctx.workspace, x.dtype, {x.size(0), int64_t(parts_.size()) * rank_});
  matmul(ctx, dropped(ctx, x, rows), a_->weight.transposed(), inner);
  scale(ctx, inner, scale_, inner);
  for (size_t i = 0; i < parts_.size(); ++i) {
    matmul(ctx, columns_of(inner, i), rows_of(b_->weight, i).transposed(),
           y.slice(1, parts_[i].y_begin, parts_[i].y_end), MatmulOutput::accumulate);
  }
}

void LoraAdapter::backward_input(const Context& ctx, const Tensor& dy, const Tensor& dx,
                                 const AdapterRows& rows) const {
  if (!rows.on) return;
  ArenaScope scope(*ctx.workspace);
  const Tensor inner = inner_gradient(ctx, dy);
  if (!drops(rows)) return matmul(ctx, inner, a_->weight, dx, MatmulOutput::accumulate);
  const Tensor part = allocate(*ctx.workspace, dx.dtype, {dx.size(0), dx.size(1)});
  matmul(ctx, inner, a_->weight, part);
  dropout(ctx, part, part, dropout_, rows.dropout_key, elements_of(rows));
  add(ctx, dx, part, dx);
}

// x A^T is computed again: R of O columns, instead of memory for them in every layer.
void LoraAdapter::backward_weight(const Context& ctx, const Tensor& dy, const Tensor& x,
                                  const AdapterRows& rows) const {
  if (!rows.on || (!a_->gradient.defined() && !b_->gradient.defined())) return;
  ArenaScope scope(*ctx.workspace);
  const Tensor input = dropped(ctx, x, rows);
  if (a_->gradient.defined()) {
    matmul(ctx, inner_gradient(ctx, dy).transposed(), input, a_->gradient,
           MatmulOutput::accumulate);
  }
  if (!b_->gradient.defined()) return;
  const Tensor inner =
      allocate(*ctx.workspace, x.dtype, {x.size(0), int64_t(parts_.size()) * rank_});
  matmul(ctx, input, a_->weight.transposed(), inner);
  scale(ctx, inner, scale_, inner);
  for (size_t i = 0; i < parts_.size(); ++i) {
    matmul(ctx, dy.slice(1, parts_[i].y_begin, parts_[i].y_end).transposed(), columns_of(inner, i),
           rows_of(b_->gradient, i), MatmulOutput::accumulate);
  }
}

void add_adapter_product(const float* b, const float* a, int64_t outputs, int64_t rank,
                         int64_t inputs, double scale, float* weight) {
#pragma omp parallel for
  for (int64_t o = 0; o < outputs; ++o) {
    std::vector<double> sum(size_t(inputs), 0.0);
    for (int64_t r = 0; r < rank; ++r) {
      const double factor = double(b[o * rank + r]);
      for (int64_t i = 0; i < inputs; ++i) sum[size_t(i)] += factor * double(a[r * inputs + i]);
    }
    float* row = weight + o * inputs;
    for (int64_t i = 0; i < inputs; ++i) row[i] = float(double(row[i]) + scale * sum[size_t(i)]);
  }
}

}  // namespace forja
