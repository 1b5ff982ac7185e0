// SPDX-License-Identifier: Apache-2.0
// The communication of a step, counted, is what the formulas of docs/parallelism.md say: exactly,
// on every rank, for every group.
#include <omp.h>

#include <map>

#include "tests/testing/local_world.h"
#include "tests/testing/testing.h"
#include "tests/train/small_run.h"

namespace forja {
namespace {

// Bytes by "purpose kind".
using Bytes = std::map<std::string, int64_t>;

Bytes counted(const Communicator& group) {
  Bytes out;
  for (const CommVolume& v : group.volumes())
    if (v.bytes > 0) out[fmt::format("{} {}", v.purpose, comm_kind_name(v.kind))] += v.bytes;
  return out;
}

// What a rank sends for a buffer of `bytes`, by the bandwidth-optimal algorithms. All that follows
// is made of these two.
int64_t one_way(int64_t bytes, int ranks) { return (ranks - 1) * bytes / ranks; }
int64_t both_ways(int64_t bytes, int ranks) { return 2 * (ranks - 1) * bytes / ranks; }

// One rank of a run.
struct Run {
  const EngineConfig& config;
  const Mesh& mesh;
  const ParameterStore& store;
  const Schedule& schedule;

  int64_t microbatches() const { return schedule.num_microbatches; }
  int64_t element_bytes() const { return dtype_bytes(config.compute_dtype); }
  int64_t rows() const { return config.micro_batch_size * config.sequence_length; }
  // What passes between layers, of all tensor-parallel ranks together.
  int64_t activation_bytes() const { return rows() * config.model.hidden_size * element_bytes(); }
  const std::vector<Action>& actions() const {
    return schedule.actions[size_t(mesh.coordinates.pp)];
  }
  std::vector<int> stages() const { return schedule.stages_of_rank(mesh.coordinates.pp); }
  int64_t num_layers() const {
    int64_t n = 0;
    for (const auto& p : store.all()) n += p->spec.name.ends_with("attention.qkv.weight");
    return n;
  }
  bool is_elsewhere(int stage) const {
    return stage >= 0 && stage < schedule.num_stages() &&
           schedule.rank_of_stage[size_t(stage)] != mesh.coordinates.pp;
  }
};

// Every matrix multiplication whose input or output changes between "some rows, all columns" and
// "all rows, some columns" moves the activation once, one way.
Bytes tensor_parallel_bytes(const Run& r) {
  const int tp = r.mesh.dims.tp;
  if (tp == 1) return {};
  const bool again = r.config.parallel.recompute == "full";
  const int64_t move = one_way(r.activation_bytes(), tp) * r.microbatches();
  const int64_t layers = r.num_layers();
  Bytes out;
  // A layer: in and out of attention and of the MLP, forward; full recompute does it again but for
  // the MLP's output, which nothing in backward reads.
  out["attention input all_gather"] = layers * move * (again ? 2 : 1);
  out["attention output reduce_scatter"] = layers * move * (again ? 2 : 1);
  out["mlp input all_gather"] = layers * move * (again ? 2 : 1);
  out["mlp output reduce_scatter"] = layers * move;
  // The gradients of the inputs: the same four, the other way round.
  out["mlp output gradient all_gather"] = layers * move;
  out["mlp input gradient reduce_scatter"] = layers * move;
  out["attention output gradient all_gather"] = layers * move;
  out["attention input gradient reduce_scatter"] = layers * move;
  // The gradients of the weights read inputs of which only the own rows were kept.
  out["mlp input again all_gather"] = layers * move;
  out["attention input again all_gather"] = layers * move;
  if (r.stages().front() == 0) {
    out["embedding reduce_scatter"] = move;
    out["embedding gradient all_gather"] = move;
  }
  if (r.stages().back() == r.schedule.num_stages() - 1) {
    out["head input all_gather"] = move;
    out["head input gradient reduce_scatter"] = move;
    // Of every row three fp32: the largest logit, the sum of exponentials, the target's logit.
    out["largest logit all_reduce"] = r.microbatches() * both_ways(r.rows() * 4, tp);
    out["softmax sums all_reduce"] = r.microbatches() * both_ways(r.rows() * 8, tp);
  }
  // Once a step, of each stage, the shards of what is whole on every rank, in fp32.
  for (const Bucket& b : r.store.buckets()) {
    if (b.kind == UnitKind::replicated)
      out["replicated gradients all_reduce"] +=
          both_ways(b.num_elements * 4 / r.mesh.dims.dp_shard, tp);
  }
  return out;
}

// Where there are fewer key-value heads than ranks: the fp32 gradients of shared heads, once a
// step, as much as there is in this rank's shard.
Bytes key_value_bytes(const Run& r) {
  const int copies = r.mesh.key_value->size();
  if (copies == 1) return {};
  int64_t bytes = 0;
  const int64_t head_rows = r.config.model.head_dim;  // one key-value head a rank
  for (const auto& p : r.store.all()) {
    if (p->spec.name.find("qkv") == std::string::npos) continue;
    const int64_t columns = p->block.columns, q = p->block.rows - 2 * head_rows;
    for (const int64_t first : {q, q + head_rows}) {
      const int64_t begin = std::max(p->begin, first * columns),
                    end = std::min(p->end, (first + head_rows) * columns);
      if (begin < end) bytes += both_ways((end - begin) * 4, copies);
    }
  }
  if (bytes == 0) return {};
  return {{"key-value gradients all_reduce", bytes}};
}

// Of each boundary between ranks, for each micro-batch, the own rows of an activation to the next
// stage and of a gradient back.
Bytes pipeline_bytes(const Run& r) {
  const int64_t own = r.activation_bytes() / r.mesh.dims.tp;
  Bytes out;
  for (const int stage : r.stages()) {
    if (r.is_elsewhere(stage + 1)) out["activation exchange"] += r.microbatches() * own;
    if (r.is_elsewhere(stage - 1)) out["gradient exchange"] += r.microbatches() * own;
  }
  return out;
}

// ZeRO-3's gathers: a pass (forward or backward) through a stage needs every bucket of its layers.
// Two buffers keep what was used last: when the next pass of the rank goes through the same stage
// the other way, the two buckets at which it turns are still there. For stages of four buckets or
// more; of two or fewer everything is gathered once a step.
int64_t zero3_gather_bytes(const Run& r) {
  const auto bucket_bytes = [&](int stage) {
    std::vector<int64_t> out;
    for (const Bucket& b : r.store.buckets()) {
      if (b.stage == stage && b.shards_weights)
        out.push_back(one_way(b.num_elements * r.element_bytes(), r.mesh.dims.dp_shard));
    }
    return out;
  };
  int64_t sum = 0;
  const Action* before = nullptr;
  for (const Action& a : r.actions()) {
    if (!is_computing(a.kind) || a.kind == ActionKind::backward_weight) continue;
    const std::vector<int64_t> bytes = bucket_bytes(a.stage);
    EXPECT_GE(bytes.size(), 4u);
    for (const int64_t b : bytes) sum += b;
    const bool forward = a.kind == ActionKind::forward;
    if (before && before->stage == a.stage && (before->kind == ActionKind::forward) != forward)
      sum -= forward ? bytes[0] + bytes[1] : bytes.end()[-1] + bytes.end()[-2];
    before = &a;
  }
  return sum;
}

// Of each bucket: gradients in fp32, one way, once a step (every micro-batch of layers from zero 2
// on); weights in the compute dtype, one way, once a step (around every use of layers in zero 3).
Bytes shard_bytes(const Run& r) {
  const int shards = r.mesh.dims.dp_shard;
  if (shards == 1) return {};
  Bytes out;
  for (const Bucket& b : r.store.buckets()) {
    const bool layer = b.kind == UnitKind::layer;
    const bool each = layer && r.config.parallel.zero >= 2;
    out["gradients reduce_scatter"] +=
        one_way(b.num_elements * 4, shards) * (each ? r.microbatches() : 1);
    if (!layer || r.config.parallel.zero < 3)
      out["weights all_gather"] += one_way(b.num_elements * r.element_bytes(), shards);
  }
  if (r.config.parallel.zero == 3) out["weights all_gather"] += zero3_gather_bytes(r);
  return out;
}

// The fp32 gradients of a rank's shard, both ways, once a step.
Bytes copy_bytes(const Run& r) {
  const int copies = r.mesh.dims.dp_replicate(), shards = r.mesh.dims.dp_shard;
  if (copies == 1) return {};
  Bytes out;
  for (const Bucket& b : r.store.buckets()) {
    const bool begins_early = shards == 1 && !b.shards_gradients;
    out[begins_early ? "gradients all_reduce" : "gradients of copies all_reduce"] +=
        both_ways(b.num_elements * 4 / shards, copies);
  }
  return out;
}

// A tied embedding at both ends of the pipeline: the shard of its fp32 gradient, once a step.
Bytes embedding_bytes(const Run& r) {
  if (r.mesh.embedding->size() == 1) return {};
  Bytes out;
  for (const Bucket& b : r.store.buckets()) {
    if (b.kind == UnitKind::vocabulary)
      out["tied gradients all_reduce"] += both_ways(b.num_elements * 4 / r.mesh.dims.dp_shard, 2);
  }
  return out;
}

Bytes number(const Communicator& group, const char* name, int64_t count = 1) {
  if (group.size() == 1) return {};
  return {{name, both_ways(8 * count, group.size())}};
}

// Runs a step and compares; returns what rank 0's shard and copies' groups moved.
Bytes check(const EngineConfig& config, int ranks, const std::string& name) {
  Bytes data_parallel;
  testing::run_world(ranks, [&](World& world) {
    SCOPED_TRACE(fmt::format("{}, rank {}", name, world.rank()));
    omp_set_num_threads(1);
    const ParallelDims dims = ParallelDims::from(config.parallel, world.size());
    Mesh mesh = make_mesh(world.communicator(), dims, mesh_options(config));
    const MemoryPlan plan = TrainEngine::plan(config, dims, world.rank());
    TrainEngine engine(config, mesh, &plan);
    engine.store().initialize(engine.context(), config.seed);
    engine.weights_changed();
    Communicator* groups[] = {mesh.tp.get(),        mesh.pp.get(),           mesh.dp.get(),
                              mesh.dp_shard.get(),  mesh.dp_replicate.get(), mesh.copy.get(),
                              mesh.embedding.get(), mesh.key_value.get(),    mesh.world};
    for (Communicator* group : groups) group->reset_volumes();
    engine.step(
        1, 1e-3, config.num_microbatches,
        [&](int64_t m, const MicroBatch& b) { return fill(config.model.vocab_size, 1, m, b); },
        [&](int64_t m) { return m * config.sequence_length; });
    const Run run{config, mesh, engine.store(), engine.schedule(config.num_microbatches)};
    EXPECT_EQ(counted(*mesh.tp), tensor_parallel_bytes(run));
    EXPECT_EQ(counted(*mesh.key_value), key_value_bytes(run));
    EXPECT_EQ(counted(*mesh.pp), pipeline_bytes(run));
    EXPECT_EQ(counted(*mesh.dp_shard), shard_bytes(run));
    EXPECT_EQ(counted(*mesh.dp_replicate), copy_bytes(run));
    EXPECT_EQ(counted(*mesh.embedding), embedding_bytes(run));
    // Of targets and of tokens, 8 bytes each.
    EXPECT_EQ(counted(*mesh.dp), number(*mesh.dp, "number of targets all_reduce", 3));
    EXPECT_EQ(counted(*mesh.copy), number(*mesh.copy, "gradient norm all_reduce"));
    // Loss and votes, and nine kinds of time.
    EXPECT_EQ(counted(*mesh.world), number(*mesh.world, "loss and times all_reduce", 16));
    if (world.rank() == 0) {
      data_parallel = counted(*mesh.dp_shard);
      for (const auto& [purpose, bytes] : counted(*mesh.dp_replicate))
        data_parallel[purpose] += bytes;
    }
  });
  return data_parallel;
}

Bytes check(const Layout& layout, DType dtype = DType::f32, int64_t num_microbatches = 4) {
  EngineConfig config = config_of(layout);
  config.compute_dtype = dtype;
  config.num_microbatches = num_microbatches;
  config.bucket_bytes = 1;  // a layer a bucket
  return check(config, layout.ranks(),
               fmt::format("{} {} M {}", layout.to_string(), dtype_name(dtype), num_microbatches));
}

TEST(Volume, TensorParallel) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int tp : {2, 4}) {
      check({.tp = tp}, dtype);
      check({.gpt2 = true, .tp = tp, .recompute = "selective"}, dtype);
    }
    check({.tp = 2, .recompute = "full"}, dtype);
  }
}

TEST(Volume, Pipeline) {
  check({.pp = 2, .schedule = "1f1b"});
  check({.gpt2 = true, .pp = 4, .schedule = "gpipe"}, DType::bf16);
  check({.pp = 2, .virtual_stages = 2, .schedule = "interleaved_1f1b"});
  check({.pp = 2, .schedule = "zb_h1"});
  check({.gpt2 = true, .pp = 2, .schedule = "zb_v"});  // both ends on rank 0
  check({.pp = 2, .schedule = "dualpipe_v"});
}

TEST(Volume, DataParallel) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int zero : {0, 1, 2, 3}) {
      check({.dp = 2, .zero = zero}, dtype);
      check({.gpt2 = true, .dp = 3, .zero = zero}, dtype, 3);
    }
  }
}

TEST(Volume, HybridSharding) {
  for (const int zero : {1, 2, 3}) {
    check({.dp = 4, .zero = zero, .dp_shard = 2});
    check({.dp = 2, .zero = zero, .dp_shard = 1});
  }
}

TEST(Volume, AllAxes) {
  for (const int zero : {0, 1, 2, 3}) {
    check({.gpt2 = true, .tp = 2, .pp = 2, .dp = 2, .zero = zero});
    check({.tp = 4, .dp = 2, .zero = zero});  // shared key-value heads
  }
  check({.pp = 2, .dp = 2, .zero = 3, .schedule = "zb_h1"});
}

TEST(Volume, GradientsOnceAStepWhateverTheNumberOfMicroBatches) {
  for (const int zero : {0, 1}) {
    const Bytes one = check({.dp = 2, .zero = zero}, DType::f32, 1);
    EXPECT_FALSE(one.empty());
    for (const int64_t m : {2, 8}) EXPECT_EQ(check({.dp = 2, .zero = zero}, DType::f32, m), one);
  }
}

}  // namespace
}  // namespace forja
