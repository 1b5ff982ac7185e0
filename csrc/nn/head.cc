// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/head.h"

#include <algorithm>

#include "csrc/nn/hf_names.h"
#include "forja/ops/cross_entropy.h"
#include "forja/ops/log_probability.h"
#include "forja/ops/matmul.h"

namespace forja {
namespace {

constexpr int64_t kChunkBytes = int64_t(128) << 20;  // of fp32 logits

Parameter* declare_weight(ParameterStore& store, const ModelConfig& model) {
  ParameterSpec spec;
  spec.name = "head.weight";
  spec.shape = {model.vocab_size, model.hidden_size};
  spec.init_std = float(model.initializer_range);
  spec.unit = int(model.num_hidden_layers) + 1;
  spec.segments = {{hf_model_name(model, "head") + ".weight", model.vocab_size, false}};
  return store.declare(spec);
}

}  // namespace

Head::Head(ParameterStore& store, const ModelConfig& model, Parameter* tied)
    : norm_(store, model, "final_norm", hf_model_name(model, "final_norm"), model.hidden_size,
            int(model.num_hidden_layers) + 1),
      weight_(tied ? tied : declare_weight(store, model)) {}

int64_t Head::chunk_rows(int64_t rows) const {
  const int64_t fitting = kChunkBytes / (weight_->weight.size(0) * 4) / 64 * 64;
  return std::min(rows, std::max<int64_t>(fitting, 64));
}

void Head::normalize(const Context& ctx, Arena& arena, const Tensor& residual, const Tensor& branch,
                     Stash& stash) const {
  stash.hidden = allocate(arena, residual.dtype, {residual.size(0), residual.size(1)});
  if (branch.defined()) {
    norm_.add_forward(ctx, arena, branch, residual, stash.hidden, stash.norm);
  } else {
    norm_.forward(ctx, arena, residual, stash.hidden, stash.norm);
  }
}

void Head::chunk_statistics(const Context& ctx, const Tensor& logits, const Tensor& targets,
                            const Tensor& lse, const Tensor& log_probabilities) const {
  ArenaScope scope(*ctx.workspace);
  const int64_t n = targets.size(0);
  const Tensor sum_exp = allocate(*ctx.workspace, DType::f32, {n});
  const Tensor target_logit = allocate(*ctx.workspace, DType::f32, {n});
  softmax_statistics(ctx, logits, targets, 0, lse, sum_exp, target_logit);
  log_probability(ctx, lse, sum_exp, target_logit, targets, lse, log_probabilities);
}

void Head::forward(const Context& ctx, const Tensor& hidden, const Tensor& targets,
                   const Tensor& log_probabilities) const {
  ArenaScope scope(*ctx.workspace);
  const int64_t rows = hidden.size(0), chunk = chunk_rows(rows), v = weight_->weight.size(0);
  const Tensor buffer = allocate(*ctx.workspace, DType::f32, {chunk, v});
  const Tensor lse = allocate(*ctx.workspace, DType::f32, {chunk});
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk);
    const Tensor z = buffer.slice(0, 0, end - begin);
    logits(ctx, hidden.slice(0, begin, end), z);
    chunk_statistics(ctx, z, targets.slice(0, begin, end), lse.slice(0, 0, end - begin),
                     log_probabilities.slice(0, begin, end));
  }
}

void Head::forward_backward(const Context& ctx, const Tensor& hidden, const Tensor& targets,
                            const Tensor& coefficients, const Tensor& log_probabilities,
                            const Tensor& d_hidden) const {
  ArenaScope scope(*ctx.workspace);
  const int64_t rows = hidden.size(0), chunk = chunk_rows(rows), v = weight_->weight.size(0);
  const DType dtype = hidden.dtype;
  const Tensor buffer = allocate(*ctx.workspace, DType::f32, {chunk, v});
  const Tensor gradient =
      dtype == DType::f32 ? buffer : allocate(*ctx.workspace, dtype, {chunk, v});
  const Tensor lse = allocate(*ctx.workspace, DType::f32, {chunk});
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk);
    const Tensor h = hidden.slice(0, begin, end), target = targets.slice(0, begin, end);
    const Tensor z = buffer.slice(0, 0, end - begin), dz = gradient.slice(0, 0, end - begin);
    const Tensor chunk_lse = lse.slice(0, 0, end - begin);
    logits(ctx, h, z);
    chunk_statistics(ctx, z, target, chunk_lse, log_probabilities.slice(0, begin, end));
    softmax_gradient(ctx, z, target, 0, chunk_lse, coefficients.slice(0, begin, end), dz);
    matmul(ctx, dz, weight_->weight, d_hidden.slice(0, begin, end));
    if (weight_->gradient.defined())
      matmul(ctx, dz.transposed(), h, weight_->gradient, MatmulOutput::accumulate);
  }
}

void Head::backward_input(const Context& ctx, const Stash& stash, const Tensor& d_x) const {
  norm_.backward(ctx, stash.norm, stash.d_hidden, {}, d_x);
}

void Head::logits(const Context& ctx, const Tensor& hidden, const Tensor& logits) const {
  matmul(ctx, hidden, weight_->weight.transposed(), logits);
}

}  // namespace forja
