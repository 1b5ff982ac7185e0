// SPDX-License-Identifier: Apache-2.0
// The memory that is planned is what the formulas of docs/parallelism.md say. That it is what a run
// uses is a test of layouts.
#include <algorithm>
#include <map>

#include "tests/testing/testing.h"
#include "tests/train/small_run.h"

namespace forja {
namespace {

int64_t padded(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
// Bytes of a tensor in an arena.
int64_t tensor(int64_t elements, int64_t element_bytes) {
  return padded(elements * element_bytes, Arena::kAlignment);
}

// ---- Weights, gradients, optimizer

struct States {
  int64_t weights = 0, gradients = 0, optimizer = 0;
};

// Of buckets of n elements, S shards, e bytes of the compute dtype.
States states_of(const ParameterStore& store, int zero) {
  const int64_t shards = store.options().num_shards, e = dtype_bytes(store.compute_dtype());
  States out;
  int64_t largest = 0;
  for (const Bucket& b : store.buckets()) {
    int64_t n = 0;
    for (const Parameter* p : b.parameters) n += padded(p->block.num_elements(), 16);
    n = padded(n, 16 * shards);
    EXPECT_EQ(b.num_elements, n);
    const bool layer = b.kind == UnitKind::layer;
    if (layer) largest = std::max(largest, n);
    out.weights += tensor(layer && zero == 3 ? n / shards : n, e);
    out.gradients += tensor(layer && zero >= 2 ? n / shards : n, 4);
    // Two moments, and a master where weights are not fp32 themselves.
    out.optimizer += 2 * tensor(n / shards, dtype_bytes(store.options().moment_dtype)) +
                     (e == 4 ? 0 : tensor(n / shards, 4));
  }
  if (zero == 3) out.weights += 2 * tensor(largest, e);
  if (zero >= 2) out.gradients += 2 * (tensor(largest, 4) + tensor(largest / shards, 4));
  out.optimizer += 3 * tensor(1, 8);  // sum of squares, its limit, number of updates
  return out;
}

void check_states(const Layout& layout, DType dtype, DType moments = DType::f32) {
  EngineConfig config = config_of(layout);
  config.optimizer.state_dtype = dtype_name(moments);
  config.compute_dtype = dtype;
  const ParallelDims dims = ParallelDims::from(config.parallel, layout.ranks());
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    SCOPED_TRACE(fmt::format("{} {}, rank {}", layout.to_string(), dtype_name(dtype), rank));
    Mesh mesh = make_planning_mesh(dims, rank, mesh_options(config));
    TrainEngine engine(config, mesh, nullptr);
    States states = states_of(engine.store(), layout.zero);
    // Tables of rotary positions.
    const MemoryPlan plan = TrainEngine::plan(config, dims, rank);
    if (config.model.has_rope())
      states.weights += int64_t(plan.stashes.size()) * 2 *
                        tensor(config.sequence_length * config.model.head_dim / 2, 4);
    EXPECT_EQ(plan.weights, states.weights);
    EXPECT_EQ(plan.gradients, states.gradients);
    EXPECT_EQ(plan.optimizer, states.optimizer);
  }
}

TEST(Memory, OfWeightsGradientsAndOptimizerByZeroLevel) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int zero : {0, 1, 2, 3}) {
      check_states({.dp = 2, .zero = zero}, dtype);
      check_states({.gpt2 = true, .tp = 2, .pp = 2, .dp = 3, .zero = zero}, dtype);
      if (zero > 0) check_states({.tp = 4, .dp = 4, .zero = zero, .dp_shard = 2}, dtype);
    }
    check_states({.gpt2 = true, .pp = 2, .schedule = "zb_v"}, dtype);
    check_states({.tp = 2, .dp = 2, .zero = 1}, dtype, DType::bf16);
  }
}

// ---- Activations

// Sizes of one rank; see LayerStash.
struct Sizes {
  explicit Sizes(const EngineConfig& c)
      : e(dtype_bytes(c.compute_dtype)), rows(c.micro_batch_size * c.sequence_length) {
    const ModelConfig& m = c.model;
    const int64_t tp = c.parallel.tp, d = m.head_dim, heads = m.num_attention_heads / tp,
                  key_values = std::max<int64_t>(1, m.num_key_value_heads / tp),
                  inner = m.intermediate_size / tp;
    own = tensor(rows / tp * m.hidden_size, e);
    all = tp == 1 ? 0 : tensor(rows * m.hidden_size, e);
    statistics = (m.is_layer_norm() ? 2 : 1) * tensor(rows / tp, 4);
    qkv = tensor(rows * (heads + 2 * key_values) * d, e);
    if (m.qk_norm) {
      normalised = tensor(rows * (heads + key_values) * d, e) + tensor(rows * heads, 4) +
                   tensor(rows * key_values, 4);
    }
    attention = tensor(rows * heads * d, e) + tensor(heads * rows, 4);  // output, lse
    up = tensor(rows * inner * (m.is_swiglu() ? 2 : 1), e);
    activation = tensor(rows * inner, e);
  }
  // What forward keeps beside the layer's input.
  int64_t kept(Recompute recompute) const {
    if (recompute == Recompute::full) return 0;
    const int64_t dear = 2 * statistics + qkv + normalised + own + up;  // own: the MLP norm's input
    return recompute == Recompute::selective ? dear : dear + cheap();
  }
  // Inputs of qkv and up, attention's output, the activation function's.
  int64_t cheap() const { return 2 * own + attention + activation; }
  // Made by a backward_input for the backward_weight that comes later, beside the gradient of the
  // layer's input.
  int64_t made(Recompute recompute) const {
    const int64_t gradients = 2 * all + up + own + qkv;
    if (recompute == Recompute::none) return gradients;
    const int64_t restored = cheap() + 2 * statistics;
    if (recompute == Recompute::selective) return gradients + restored;
    return gradients + restored + qkv + normalised + 2 * own + up;
  }

  int64_t e, rows;
  int64_t own, all, statistics, qkv, normalised = 0, attention, up, activation;
};

// Of a stage with `layers` layers.
int64_t activations_of(const EngineConfig& c, int64_t layers, bool first, bool last, bool splits) {
  const Sizes s(c);
  const Recompute recompute = c.parallel.recompute_of_layer(0);
  // Between stages: output and its gradient, gradient of the input. In a first stage the embedding.
  int64_t bytes = s.own + (last ? 0 : 2 * s.own);
  bytes += layers * s.kept(recompute) + (layers - 1) * s.own;  // the first one's input is there
  if (last) bytes += 3 * s.own + s.statistics;  // the head: norm's input, its output, gradient
  if (splits) bytes += layers * s.made(recompute) + (layers - 1) * s.own + (first + last) * s.own;
  return bytes;
}

void check_activations(const Layout& layout, DType dtype, bool qk_norm = false) {
  EngineConfig config = config_of(layout);
  config.compute_dtype = dtype;
  config.model.qk_norm = qk_norm;
  const ParallelDims dims = ParallelDims::from(config.parallel, layout.ranks());
  for (int pp = 0; pp < layout.pp; ++pp) {
    SCOPED_TRACE(fmt::format("{} {}, stage {}", layout.to_string(), dtype_name(dtype), pp));
    const MemoryPlan plan = TrainEngine::plan(config, dims, dims.rank({pp, 0, 0, 0}));
    ASSERT_EQ(plan.stashes.size(), 1u);
    EXPECT_EQ(plan.stashes[0].bytes,
              activations_of(config, config.model.num_hidden_layers / layout.pp, pp == 0,
                             pp + 1 == layout.pp, layout.schedule == "zb_h1"));
    const int64_t m = config.num_microbatches;
    const std::map<std::string, int64_t> counts = {{"gpipe", m},
                                                   {"1f1b", std::min<int64_t>(m, layout.pp - pp)}};
    if (const auto count = counts.find(layout.schedule); count != counts.end()) {
      EXPECT_EQ(plan.stashes[0].count, count->second);
    }
  }
}

TEST(Memory, OfActivationsByRecomputeMode) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const char* recompute : {"none", "selective", "full"}) {
      for (const char* schedule : {"gpipe", "1f1b", "zb_h1"}) {
        for (const bool gpt2 : {false, true}) {
          for (const int pp : {1, 4})
            check_activations(
                {.gpt2 = gpt2, .pp = pp, .schedule = schedule, .recompute = recompute}, dtype);
          check_activations(
              {.gpt2 = gpt2, .tp = 2, .pp = 2, .schedule = schedule, .recompute = recompute},
              dtype);
        }
        check_activations({.tp = 4, .schedule = schedule, .recompute = recompute}, dtype, true);
      }
    }
  }
}

}  // namespace
}  // namespace forja
