// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/head.h"

#include <algorithm>
#include <limits>

#include "csrc/nn/hf_names.h"
#include "forja/ops/cross_entropy.h"
#include "forja/ops/elementwise.h"
#include "forja/ops/log_probability.h"
#include "forja/ops/matmul.h"

namespace forja {
namespace {

constexpr int64_t kChunkBytes = int64_t(128) << 20;  // of fp32 logits

}  // namespace

ParameterSpec vocabulary_spec(const ModelConfig& model, const std::string& name, int stage) {
  ParameterSpec spec;
  spec.name = name + ".weight";
  spec.shape = {model.vocab_size, model.hidden_size};
  spec.init_std = float(model.initializer_range);
  spec.stage = stage;
  spec.kind = UnitKind::vocabulary;
  spec.unit = name == "head" ? 1 : 0;
  spec.placement = TensorPlacement::rows;
  spec.row_groups = {{model.vocab_size, model.vocab_size, true}};
  spec.segments = {{hf_model_name(model, name) + ".weight", model.vocab_size, false}};
  return spec;
}

Head::Head(ParameterStore& store, const ModelConfig& model, const TensorParallel& tp, int stage,
           Parameter* tied)
    : tp_(tp),
      norm_(store, model, "final_norm", hf_model_name(model, "final_norm"), model.hidden_size,
            stage),
      weight_(tied ? tied : store.declare(vocabulary_spec(model, "head", stage))) {}

int64_t Head::first_word() const {
  return weight_->block.row_ranges.empty() ? 0 : weight_->block.row_ranges[0].full;
}

int64_t Head::num_words() const {
  return weight_->block.row_ranges.empty() ? 0 : weight_->block.row_ranges[0].count;
}

Tensor Head::words(const Tensor& table) const { return table.slice(0, 0, num_words()); }

int64_t Head::chunk_rows(int64_t rows) const {
  const int64_t fitting = kChunkBytes / (weight_->block.rows * 4) / 64 * 64;
  return std::min(rows, std::max<int64_t>(fitting, 64));
}

void Head::normalize(const Context& ctx, Arena& arena, const Tensor& residual, const Tensor& branch,
                     Stash& stash) const {
  stash.hidden = allocate(arena, residual.dtype, {residual.size(0), residual.size(1)});
  if (branch.defined()) {
    stash.norm.x = allocate(arena, residual.dtype, {residual.size(0), residual.size(1)});
    norm_.add_forward(ctx, arena, branch, residual, stash.hidden, stash.norm);
  } else {
    norm_.forward(ctx, arena, residual, stash.hidden, stash.norm);
  }
}

void Head::chunk_statistics(const Context& ctx, const Tensor& logits, const Tensor& targets,
                            const Tensor& lse, const Tensor& log_probabilities,
                            const Tensor& margins) const {
  ArenaScope scope(*ctx.workspace);
  const int64_t n = targets.size(0);
  const Tensor maximum = allocate(*ctx.workspace, DType::f32, {n});
  const Tensor sums = allocate(*ctx.workspace, DType::f32, {2, n});  // sum_exp, target's logit
  const Tensor sum_exp = sums.select(0, 0), target_logit = sums.select(0, 1);
  if (num_words() > 0) {
    softmax_statistics(ctx, logits, targets, first_word(), maximum, sum_exp, target_logit);
  } else {
    fill_value(ctx, maximum, std::numeric_limits<float>::lowest());
    fill_zero(ctx, sums);
  }
  Tensor largest = maximum;
  if (tp_.size() > 1) {
    largest = allocate(*ctx.workspace, DType::f32, {n});
    convert(ctx, maximum, largest);
    tp_.all_reduce(ctx, largest, ReduceOp::max, "largest logit");
    rescale_sum_exp(ctx, maximum, largest, sum_exp);
    tp_.all_reduce(ctx, sums, ReduceOp::sum, "softmax sums");
  }
  log_probability(ctx, largest, sum_exp, target_logit, targets, lse, log_probabilities);
  if (!margins.defined()) return;
  fill_value(ctx, sum_exp, 1.0f);  // of a softmax whose only token is the likeliest one
  log_probability(ctx, largest, sum_exp, target_logit, targets, largest, margins);
}

void Head::forward(const Context& ctx, const Tensor& hidden, const Tensor& targets,
                   const Tensor& log_probabilities, const Tensor& margins) const {
  ArenaScope scope(*ctx.workspace);
  const Tensor all = tp_.all_rows(*ctx.workspace, hidden);
  tp_.gather(ctx, hidden, all, "head input");
  const int64_t rows = all.size(0), chunk = chunk_rows(rows);
  const Tensor buffer = allocate(*ctx.workspace, DType::f32, {chunk, num_words()});
  const Tensor lse = allocate(*ctx.workspace, DType::f32, {chunk});
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk);
    const Tensor z = buffer.slice(0, 0, end - begin);
    logits(ctx, all.slice(0, begin, end), z);
    chunk_statistics(ctx, z, targets.slice(0, begin, end), lse.slice(0, 0, end - begin),
                     log_probabilities.slice(0, begin, end),
                     margins.defined() ? margins.slice(0, begin, end) : margins);
  }
}

void Head::forward_backward(const Context& ctx, const Tensor& hidden, const Tensor& targets,
                            const Tensor& coefficients, const Tensor& log_probabilities,
                            const Tensor& d_hidden) const {
  ArenaScope scope(*ctx.workspace);
  const DType dtype = hidden.dtype;
  const Tensor all = tp_.all_rows(*ctx.workspace, hidden),
               d_all = tp_.all_rows(*ctx.workspace, d_hidden);
  tp_.gather(ctx, hidden, all, "head input");
  const int64_t rows = all.size(0), chunk = chunk_rows(rows), v = num_words();
  const Tensor buffer = allocate(*ctx.workspace, DType::f32, {chunk, v});
  const Tensor gradient =
      dtype == DType::f32 ? buffer : allocate(*ctx.workspace, dtype, {chunk, v});
  const Tensor lse = allocate(*ctx.workspace, DType::f32, {chunk});
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk);
    const Tensor h = all.slice(0, begin, end), target = targets.slice(0, begin, end);
    const Tensor z = buffer.slice(0, 0, end - begin), dz = gradient.slice(0, 0, end - begin);
    const Tensor chunk_lse = lse.slice(0, 0, end - begin);
    logits(ctx, h, z);
    chunk_statistics(ctx, z, target, chunk_lse, log_probabilities.slice(0, begin, end));
    if (v == 0) {
      fill_zero(ctx, d_all.slice(0, begin, end));
      continue;
    }
    softmax_gradient(ctx, z, target, first_word(), chunk_lse, coefficients.slice(0, begin, end),
                     dz);
    matmul(ctx, dz, words(weight_->weight), d_all.slice(0, begin, end));
    if (weight_->gradient.defined())
      matmul(ctx, dz.transposed(), h, words(weight_->gradient), MatmulOutput::accumulate);
  }
  tp_.reduce_scatter(ctx, d_all, d_hidden, "head input gradient", [](int64_t, int64_t) {});
}

void Head::backward_input(const Context& ctx, const Stash& stash, const Tensor& d_x) const {
  norm_.backward(ctx, stash.norm, stash.d_hidden, {}, d_x);
}

void Head::logits(const Context& ctx, const Tensor& hidden, const Tensor& logits) const {
  if (num_words() > 0) matmul(ctx, hidden, words(weight_->weight).transposed(), logits);
}

}  // namespace forja
