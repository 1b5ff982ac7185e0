// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/parameter_store.h"

#include <algorithm>
#include <cstring>

#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/base/philox.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {

constexpr int64_t kPad = Arena::kAlignment / 4;  // elements between parameters

int64_t padded(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

Tensor part(const Tensor& flat, int64_t begin, int64_t end) {
  return flat.defined() ? flat.slice(0, begin, end) : flat;
}

// Views of the parameters of a bucket on whole memory at `data`.
void attach(const Bucket& bucket, Tensor& whole, Tensor Parameter::*member, void* data) {
  whole.data = data;
  for (size_t i = 0; i < bucket.parameters.size(); ++i) {
    Parameter& p = *bucket.parameters[i];
    (p.*member).data =
        data ? static_cast<uint8_t*>(data) + bucket.offsets[i] * dtype_bytes(whole.dtype) : nullptr;
  }
}

// Of a bucket's memory; it gets its address when it is attached.
Tensor local_tensor(const Parameter& p, const Tensor& whole) {
  const auto& block = p.block;
  return p.spec.shape.size() == 1
             ? make_tensor(nullptr, whole.dtype, {block.rows}, whole.device)
             : make_tensor(nullptr, whole.dtype, {block.rows, block.columns}, whole.device);
}

}  // namespace

void Bucket::attach_weights(void* data) { attach(*this, weights, &Parameter::weight, data); }
void Bucket::attach_gradients(void* data) { attach(*this, gradients, &Parameter::gradient, data); }

Parameter* ParameterStore::declare(ParameterSpec spec) {
  FORJA_CHECK(find(spec.name) == nullptr, "parameter {} is declared twice", spec.name);
  FORJA_CHECK(spec.shape.size() == 1 || spec.shape.size() == 2, "a parameter of rank {}",
              spec.shape.size());
  auto p = std::make_unique<Parameter>();
  p->block = local_block(spec, options_.tp_rank, options_.tp_size);
  options_.rules.apply(spec);
  p->spec = std::move(spec);
  parameters_.push_back(std::move(p));
  return parameters_.back().get();
}

Parameter* ParameterStore::find(const std::string& name) const {
  for (const auto& p : parameters_)
    if (p->spec.name == name) return p.get();
  return nullptr;
}

int64_t ParameterStore::num_parameters() const {
  int64_t n = 0;
  for (const auto& p : parameters_)
    if (!p->spec.tied_copy) n += p->spec.num_elements();
  return n;
}

int64_t ParameterStore::num_trained() const {
  int64_t n = 0;
  for (const auto& p : parameters_)
    if (!p->spec.tied_copy && p->spec.trainable) n += p->spec.num_elements();
  return n;
}

// Parameters in the order of stage, kind and unit, first the frozen ones; a layer joins the bucket
// of the layer before it while that is small.
void ParameterStore::make_buckets() {
  std::vector<Parameter*> order;
  for (const auto& p : parameters_) order.push_back(p.get());
  std::stable_sort(order.begin(), order.end(), [](const Parameter* a, const Parameter* b) {
    const auto place = [](const ParameterSpec& s) {
      return std::tuple(s.stage, int(s.kind), s.trainable, s.unit);
    };
    return place(a->spec) < place(b->spec);
  });
  buckets_.clear();
  for (Parameter* p : order) {
    const ParameterSpec& spec = p->spec;
    const auto joins = [&](const Bucket& b) {
      if (b.stage != spec.stage || b.kind != spec.kind || b.trained != spec.trainable) return false;
      if (b.last_unit == spec.unit) return true;
      return spec.kind == UnitKind::layer && b.num_elements * 4 < options_.bucket_bytes;
    };
    if (buckets_.empty() || !joins(buckets_.back())) {
      buckets_.emplace_back();
      buckets_.back().stage = spec.stage;
      buckets_.back().kind = spec.kind;
      buckets_.back().trained = spec.trainable;
      buckets_.back().first_unit = spec.unit;
    }
    Bucket& bucket = buckets_.back();
    bucket.last_unit = spec.unit;
    bucket.parameters.push_back(p);
    bucket.offsets.push_back(bucket.num_elements);
    bucket.num_elements += padded(p->block.num_elements(), kPad);
  }
}

void ParameterStore::allocate_bucket(Bucket& bucket, Arena& weights, Arena& gradients,
                                     Arena& optimizer) {
  const int64_t shards = options_.num_shards, rank = options_.shard_rank;
  const DType dtype = options_.compute_dtype;
  bucket.num_elements = padded(bucket.num_elements, kPad * shards);
  const int64_t n = bucket.num_elements, own = n / shards;
  const bool layer = bucket.kind == UnitKind::layer && options_.use == StoreUse::training;
  bucket.shards_weights = layer && options_.zero == 3;
  bucket.shards_gradients = layer && options_.zero >= 2 && bucket.trained;
  bucket.weights = make_tensor(nullptr, dtype, {n}, weights.device());
  if (bucket.shards_weights) {
    bucket.weight_shard = allocate(weights, dtype, {own});
  } else {
    bucket.weights = allocate(weights, dtype, {n});
    bucket.weight_shard = bucket.weights.slice(0, own * rank, own * (rank + 1));
  }
  if (options_.use == StoreUse::inference) return;
  if (!bucket.trained) {
    bucket.master = bucket.weight_shard;
    return;
  }
  bucket.gradients = make_tensor(nullptr, DType::f32, {n}, gradients.device());
  if (bucket.shards_gradients) {
    bucket.gradient_shard = allocate(gradients, DType::f32, {own});
  } else {
    bucket.gradients = allocate(gradients, DType::f32, {n});
    bucket.gradient_shard = bucket.gradients.slice(0, own * rank, own * (rank + 1));
  }
  bucket.master =
      dtype == DType::f32 ? bucket.weight_shard : allocate(optimizer, DType::f32, {own});
  bucket.first_moment = allocate(optimizer, options_.moment_dtype, {own});
  bucket.second_moment = allocate(optimizer, options_.moment_dtype, {own});
}

// Which part of each parameter is in this rank's shard.
void ParameterStore::place_shards(Bucket& bucket) {
  const int64_t own = bucket.num_elements / options_.num_shards, first = own * options_.shard_rank;
  for (size_t i = 0; i < bucket.parameters.size(); ++i) {
    Parameter& p = *bucket.parameters[i];
    const int64_t at = bucket.offsets[i], n = p.block.num_elements();
    p.begin = std::clamp<int64_t>(first - at, 0, n);
    p.end = std::clamp<int64_t>(first + own - at, 0, n);
    p.weight = local_tensor(p, bucket.weights);
    if (options_.use == StoreUse::inference) continue;
    if (bucket.trained) p.gradient = local_tensor(p, bucket.gradients);
    const int64_t begin = p.begin < p.end ? at + p.begin - first : 0, end = begin + p.end - p.begin;
    p.weight_shard = part(bucket.weight_shard, begin, end);
    p.master = part(bucket.master, begin, end);
    p.first_moment = part(bucket.first_moment, begin, end);
    p.second_moment = part(bucket.second_moment, begin, end);
    p.reduced_gradient = part(bucket.gradient_shard, begin, end);
  }
}

void ParameterStore::allocate_all(Arena& weights, Arena& gradients, Arena& optimizer) {
  make_buckets();
  for (Bucket& bucket : buckets_) {
    allocate_bucket(bucket, weights, gradients, optimizer);
    place_shards(bucket);
    bucket.attach_weights(bucket.weights.data);
    if (bucket.gradients.defined()) bucket.attach_gradients(bucket.gradients.data);
  }
}

void ParameterStore::clear_states(const Context& ctx) {
  for (Bucket& b : buckets_)
    for (const Tensor* t : {&b.master, &b.first_moment, &b.second_moment})
      if (t->defined()) fill_zero(ctx, *t);
}

namespace {

// The initial values of a run of elements, which begins at element `full` of the full tensor.
void draw(const Context& ctx, const ParameterSpec& spec, uint64_t key, int64_t full,
          const Tensor& x) {
  if (spec.init == InitKind::ones) fill_value(ctx, x, 1.0f);
  if (spec.init == InitKind::normal) fill_normal(ctx, x, key, full, 0.0f, spec.init_std);
}

// On the host, in fp32, whatever they are kept in.
void draw_frozen(const Context& ctx, Parameter& p, uint64_t key) {
  constexpr int64_t kPiece = 1 << 20;
  Context host = ctx;
  host.device = {};
  std::vector<float> values(size_t(std::min(kPiece, p.end - p.begin)));
  set_local(ctx, p, StateKind::weight, [&](const Tensor& out, int64_t begin, int64_t end) {
    for_each_run(p.block, begin, end, [&](const ElementRun& run) {
      for (int64_t i = 0; i < run.count; i += kPiece) {
        const int64_t count = std::min(kPiece, run.count - i), at = run.local - begin + i;
        const Tensor x = make_tensor(values.data(), DType::f32, {count});
        fill_zero(host, x);
        draw(host, p.spec, key, run.full + i, x);
        convert(host, x, out.slice(0, at, at + count));
      }
    });
  });
}

}  // namespace

void ParameterStore::initialize(const Context& ctx, uint64_t seed,
                                const std::function<bool(const ParameterSpec&)>& wanted) {
  if (ctx.planning()) return;
  FORJA_CHECK(options_.use == StoreUse::training, "only a store for training draws its weights");
  clear_states(ctx);
  for (Bucket& b : buckets_) {
    for (Parameter* p : b.parameters) {
      if (wanted && !wanted(p->spec)) continue;
      const uint64_t key = mix_key(seed, hash_text(p->spec.name));
      if (!b.trained) {
        draw_frozen(ctx, *p, key);
        continue;
      }
      for_each_run(p->block, p->begin, p->end, [&](const ElementRun& run) {
        const int64_t at = run.local - p->begin;
        draw(ctx, p->spec, key, run.full, p->master.slice(0, at, at + run.count));
      });
    }
  }
  update_compute_weights(ctx);
}

void ParameterStore::update_compute_weights(const Context& ctx) {
  if (options_.compute_dtype == DType::f32 || options_.use == StoreUse::inference) return;
  for (Bucket& b : buckets_)
    if (b.trained) convert(ctx, b.master, b.weight_shard);
}

void ParameterStore::clear_gradients(const Context& ctx) {
  for (Bucket& b : buckets_)
    if (b.trained) fill_zero(ctx, b.shards_gradients ? b.gradient_shard : b.gradients);
}

Tensor shard_of(const Parameter& p, StateKind kind) {
  return kind == StateKind::weight         ? p.master
         : kind == StateKind::first_moment ? p.first_moment
                                           : p.second_moment;
}

std::pair<int64_t, int64_t> local_range(const Parameter& p) {
  if (!p.master.defined()) return {0, p.weight.num_elements()};
  return {p.begin, p.end};
}

void set_local(const Context& ctx, Parameter& p, StateKind kind, const FillLocal& fill) {
  const bool inference = !p.master.defined();
  const Tensor to = inference ? p.weight.view({p.weight.num_elements()}) : shard_of(p, kind);
  const auto [begin, end] = local_range(p);
  if (begin == end) return;
  if (ctx.device.is_cpu()) {
    fill_zero(ctx, to);
    return fill(to, begin, end);
  }
  std::vector<uint8_t> host(size_t(to.num_bytes()));
  fill(make_tensor(host.data(), to.dtype, {end - begin}), begin, end);
  copy_bytes(ctx, to.data, host.data(), to.num_bytes());
  synchronize(ctx);  // the host's memory ends here
}

void set_from_full(const Context& ctx, Parameter& p, StateKind kind, const float* full) {
  Context host = ctx;  // which rounds
  host.device = {};
  set_local(ctx, p, kind, [&](const Tensor& out, int64_t begin, int64_t end) {
    for_each_run(p.block, begin, end, [&](const ElementRun& run) {
      const int64_t at = run.local - begin;
      convert(host, make_tensor(const_cast<float*>(full) + run.full, DType::f32, {run.count}),
              out.slice(0, at, at + run.count));
    });
  });
}

}  // namespace forja
