// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/parameter.h"

#include <algorithm>

#include "forja/base/hash.h"
#include "forja/base/philox.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {

Tensor shaped(void* data, DType dtype, const std::vector<int64_t>& shape) {
  FORJA_CHECK(shape.size() == 1 || shape.size() == 2, "a parameter of rank {}", shape.size());
  return shape.size() == 1 ? make_tensor(data, dtype, {shape[0]})
                           : make_tensor(data, dtype, {shape[0], shape[1]});
}

Tensor allocate_like(Arena& arena, DType dtype, const std::vector<int64_t>& shape) {
  Tensor t = shaped(nullptr, dtype, shape);
  t.data = arena.allocate(t.num_bytes());
  return t;
}

}  // namespace

int64_t ParameterSpec::num_elements() const {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}

Parameter* ParameterStore::declare(ParameterSpec spec) {
  FORJA_CHECK(find(spec.name) == nullptr, "parameter {} is declared twice", spec.name);
  parameters_.push_back(std::make_unique<Parameter>());
  parameters_.back()->spec = std::move(spec);
  return parameters_.back().get();
}

Parameter* ParameterStore::find(const std::string& name) const {
  for (const auto& p : parameters_)
    if (p->spec.name == name) return p.get();
  return nullptr;
}

int64_t ParameterStore::num_parameters() const {
  int64_t n = 0;
  for (const auto& p : parameters_) n += p->spec.num_elements();
  return n;
}

int ParameterStore::num_units() const {
  int units = 0;
  for (const auto& p : parameters_) units = std::max(units, p->spec.unit + 1);
  return units;
}

void ParameterStore::allocate_all(Arena& weights, Arena& gradients, Arena& optimizer) {
  for (auto& p : parameters_) {
    const auto& shape = p->spec.shape;
    p->weight = allocate_like(weights, compute_dtype_, shape);
    if (use_ == StoreUse::inference) continue;
    p->master =
        compute_dtype_ == DType::f32 ? p->weight : allocate_like(optimizer, DType::f32, shape);
    if (!p->spec.trainable) continue;
    p->first_moment = allocate_like(optimizer, DType::f32, shape);
    p->second_moment = allocate_like(optimizer, DType::f32, shape);
  }
  if (use_ == StoreUse::inference) return;

  unit_ranges_.assign(size_t(num_units()), {0, 0});
  const int64_t pad = Arena::kAlignment / 4;
  int64_t total = 0;
  for (int unit = num_units() - 1; unit >= 0; --unit) {
    unit_ranges_[size_t(unit)].first = total;
    for (auto& p : parameters_)
      if (p->spec.unit == unit && p->spec.trainable)
        total += (p->spec.num_elements() + pad - 1) / pad * pad;
    unit_ranges_[size_t(unit)].second = total;
  }
  all_gradients_ = allocate(gradients, DType::f32, {total});
  float* base = static_cast<float*>(all_gradients_.data);
  for (int unit = num_units() - 1; unit >= 0; --unit) {
    int64_t at = unit_ranges_[size_t(unit)].first;
    for (auto& p : parameters_) {
      if (p->spec.unit != unit || !p->spec.trainable) continue;
      p->gradient = shaped(base ? base + at : nullptr, DType::f32, p->spec.shape);
      at += (p->spec.num_elements() + pad - 1) / pad * pad;
    }
  }
}

Tensor ParameterStore::unit_gradients(int unit) const {
  const auto [begin, end] = unit_ranges_[size_t(unit)];
  return all_gradients_.slice(0, begin, end);
}

void ParameterStore::initialize(const Context& ctx, uint64_t seed) {
  if (ctx.planning()) return;
  FORJA_CHECK(use_ == StoreUse::training, "only a store for training draws its weights");
  for (auto& p : parameters_) {
    const Tensor flat = p->master.view({p->master.num_elements()});
    switch (p->spec.init) {
      case InitKind::zeros:
        fill_zero(ctx, flat);
        break;
      case InitKind::ones:
        fill_value(ctx, flat, 1.0f);
        break;
      case InitKind::normal:
        fill_normal(ctx, flat, mix_key(seed, hash_text(p->spec.name)), 0, 0.0f, p->spec.init_std);
        break;
    }
    if (!p->spec.trainable) continue;
    fill_zero(ctx, p->first_moment);
    fill_zero(ctx, p->second_moment);
  }
  fill_zero(ctx, all_gradients_);
  update_compute_weights(ctx);
}

void ParameterStore::update_compute_weights(const Context& ctx) {
  if (compute_dtype_ == DType::f32 || use_ == StoreUse::inference) return;
  for (auto& p : parameters_) convert(ctx, p->master, p->weight);
}

}  // namespace forja
