// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <thread>

#include "forja/parallel/parallel_dims.h"
#include "forja/parallel/parameter_store.h"
#include "forja/parallel/parameter_sync.h"
#include "forja/parallel/stage_layout.h"
#include "tests/testing/local_world.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

TEST(ParallelDims, RanksAndCoordinatesAreOneToOne) {
  const ParallelDims dims{2, 3, 2, 4};
  for (int rank = 0; rank < dims.world_size(); ++rank)
    EXPECT_EQ(dims.rank(dims.coordinates(rank)), rank);
  EXPECT_EQ(dims.coordinates(1).tp, 1) << "tp is innermost";
}

TEST(ParallelDims, ErrorsNameEveryFactor) {
  ParallelConfig config;
  config.tp = 2;
  config.pp = 3;
  EXPECT_EQ(ParallelDims::from(config, 12).dp, 2);
  EXPECT_EQ(testing::error_of([&] { ParallelDims::from(config, 8); }, ExitCode::bad_input),
            "the layout does not fit the launch: parallel.pp 3 x cp 1 x tp 2 = 6 does not divide 8 "
            "ranks (dp is what remains)");
  config.zero = 1;
  config.dp_shard = 3;
  EXPECT_EQ(testing::error_of([&] { ParallelDims::from(config, 24); }, ExitCode::bad_input),
            "parallel.dp_shard 3 does not divide dp 4: 24 ranks = pp 3 x dp 4 x cp 1 x tp 2");
  config.dp_shard = 2;
  const ParallelDims dims = ParallelDims::from(config, 24);
  EXPECT_EQ(dims.dp_replicate(), 2);
  EXPECT_EQ(dims.to_string(), "24 ranks = pp 3 x dp 4 x cp 1 x tp 2 (dp = 2 copies x 2 shards)");
}

TEST(ParallelDims, TensorParallelRanksShareAHost) {
  ParallelConfig config;
  config.tp = 2;
  const ParallelDims dims = ParallelDims::from(config, 4);
  dims.check_hosts({"a", "a", "b", "b"});
  const std::string message = testing::error_of(
      [&] {
        dims.check_hosts({"a", "b", "b", "b"});
      },
      ExitCode::bad_input);
  EXPECT_NE(message.find("ranks 0 and 1 of a group of tp 2 are on a and b"), std::string::npos);
}

TEST(StageLayout, EvenOrAsTold) {
  ParallelConfig config;
  const auto even = layers_of_stages(config, 7, 3);
  EXPECT_EQ(even, (std::vector<std::pair<int64_t, int64_t>>{{0, 2}, {2, 4}, {4, 7}}));
  config.stage_layers = {1, 4, 2};
  EXPECT_EQ(layers_of_stages(config, 7, 3)[1], (std::pair<int64_t, int64_t>{1, 5}));
  EXPECT_NE(testing::error_of([&] { layers_of_stages(config, 8, 3); }, ExitCode::bad_input)
                .find("[1, 4, 2] gives 7 layers in 3 stages; the model has 8 layers"),
            std::string::npos);
  config.stage_layers.clear();
  testing::error_of([&] { layers_of_stages(config, 2, 3); }, ExitCode::bad_input);
}

TEST(Mesh, GroupsHaveTheRanksOfTheirAxis) {
  const ParallelDims dims{2, 2, 1, 2};
  testing::run_world(8, [&](World& world) {
    const Mesh mesh = make_mesh(world.communicator(), dims);
    EXPECT_EQ(mesh.tp->size(), 2);
    EXPECT_EQ(mesh.tp->rank(), mesh.coordinates.tp);
    EXPECT_EQ(mesh.pp->rank(), mesh.coordinates.pp);
    int64_t sum = world.rank();
    mesh.dp->all_reduce(make_tensor(&sum, DType::i64, {1}), ReduceOp::sum, {"test"}).wait();
    auto other = mesh.coordinates;
    other.dp = 1 - other.dp;
    EXPECT_EQ(sum, world.rank() + dims.rank(other));
  });
}

// ---- Blocks

std::vector<int64_t> full_elements(const LocalBlock& block) {
  std::vector<int64_t> out;
  for_each_run(block, 0, block.num_elements(), [&](const ElementRun& run) {
    for (int64_t i = 0; i < run.count; ++i) out.push_back(run.full + i);
  });
  return out;
}

ParameterSpec matrix_spec(TensorPlacement placement, int64_t rows, int64_t columns) {
  ParameterSpec spec;
  spec.name = "w";
  spec.shape = {rows, columns};
  spec.placement = placement;
  return spec;
}

// Every element of the full tensor is on exactly one rank that counts it.
void expect_partition(const ParameterSpec& spec, int tp) {
  std::vector<int> seen(size_t(spec.num_elements()), 0);
  for (int rank = 0; rank < tp; ++rank) {
    Parameter p;
    p.spec = spec;
    p.block = local_block(spec, rank, tp);
    // A shard that begins within a row, and one that goes on from there.
    const int64_t cut = p.block.num_elements() / 3;
    for (const auto& [begin, end] : {std::pair{int64_t(0), cut}, {cut, p.block.num_elements()}}) {
      p.begin = begin;
      p.end = end;
      for (const ParameterRange& range : ranges_of_shard(p)) {
        for_each_run(p.block, range.begin, range.end, [&](const ElementRun& run) {
          for (int64_t i = 0; i < run.count; ++i) {
            seen[size_t(run.full + i)] += range.own;
            ASSERT_EQ(range.elements.full(run.local + i - range.begin), run.full + i);
            ASSERT_EQ(range.elements.run(run.local + i - range.begin, run.count - i),
                      run.count - i);
          }
        });
      }
    }
  }
  for (int n : seen) ASSERT_EQ(n, 1) << spec.name << " tp " << tp;
}

TEST(LocalBlock, PartitionsEveryPlacement) {
  ParameterSpec qkv = matrix_spec(TensorPlacement::rows, 8 * 3 + 2 * 3 + 2 * 3, 5);
  qkv.row_groups = {{8 * 3, 8}, {2 * 3, 2}, {2 * 3, 2}};
  ParameterSpec words = matrix_spec(TensorPlacement::rows, 13, 5);
  words.row_groups = {{13, 13, true}};
  for (const int tp : {1, 2, 4, 8}) {
    expect_partition(qkv, tp);
    expect_partition(words, tp);
    expect_partition(matrix_spec(TensorPlacement::columns, 5, 16), tp);
    expect_partition(matrix_spec(TensorPlacement::replicated, 5, 3), tp);
  }
  // Fewer key-value heads than ranks: ranks 2 and 3 of 4 share the second.
  const LocalBlock block = local_block(qkv, 3, 4);
  EXPECT_EQ(block.rows, 6 + 3 + 3);
  EXPECT_EQ(block.row_ranges[1].full, 24 + 3);
  EXPECT_EQ(block.row_ranges[1].copy, 1);
  EXPECT_EQ(block.row_ranges[1].copies, 2);
  EXPECT_EQ(full_elements(local_block(matrix_spec(TensorPlacement::columns, 2, 4), 1, 2)),
            (std::vector<int64_t>{2, 3, 6, 7}));
  // The padding of a vocabulary has no elements.
  EXPECT_EQ(full_elements(local_block(words, 3, 4)), (std::vector<int64_t>{60, 61, 62, 63, 64}));
  EXPECT_NE(testing::error_of([&] { local_block(qkv, 0, 3); }, ExitCode::bad_input)
                .find("tp 3 does not divide w: 8 parts of 3 rows"),
            std::string::npos);
}

// ---- The store and its communication

// Three layers of one matrix each, a vocabulary and a norm.
struct SmallStore {
  ParameterStore store;
  Arena weights{"weights", {}, 1 << 20}, gradients{"gradients", {}, 1 << 20},
      optimizer{"optimizer", {}, 1 << 20};
  explicit SmallStore(const StoreOptions& options = {}) : store(options) {
    for (int unit = 0; unit < 3; ++unit) {
      ParameterSpec spec = matrix_spec(TensorPlacement::rows, 10 + unit, 7);
      spec.name = fmt::format("p{}", unit);
      spec.row_groups = {{10 + unit, 1}};
      spec.unit = unit;
      store.declare(spec);
    }
    ParameterSpec words = matrix_spec(TensorPlacement::rows, 9, 4);
    words.name = "words";
    words.kind = UnitKind::vocabulary;
    store.declare(words);
    ParameterSpec norm = matrix_spec(TensorPlacement::replicated, 6, 1);
    norm.name = "norm";
    norm.kind = UnitKind::replicated;
    norm.init = InitKind::ones;
    store.declare(norm);
    store.allocate_all(weights, gradients, optimizer);
  }
};

TEST(ParameterStore, InitialWeightsDependOnSeedAndNameOnly) {
  testing::TensorBox box;
  SmallStore a, b, c;
  a.store.initialize(box.context(), 1);
  b.store.initialize(box.context(), 1);
  c.store.initialize(box.context(), 2);
  const auto values = [](SmallStore& s) { return testing::to_doubles(s.store.find("p1")->master); };
  EXPECT_EQ(values(a), values(b));
  EXPECT_NE(values(a), values(c));
  EXPECT_EQ(a.store.num_parameters(), 10 * 7 + 11 * 7 + 12 * 7 + 9 * 4 + 6);
  testing::error_of([&] { a.store.declare(a.store.find("p1")->spec); });
}

// One step of one micro-batch or more; every gradient element of rank r in micro-batch m is r + m.
void expect_reduced(int zero, int shards, int ranks, int64_t bucket_bytes) {
  testing::run_world(ranks, [&](World& world) {
    testing::TensorBox box;
    ParallelConfig config;
    config.zero = zero;
    config.dp_shard = shards;
    Mesh mesh = make_mesh(world.communicator(), ParallelDims::from(config, ranks));
    SmallStore s({.zero = zero,
                  .shard_rank = mesh.shard_rank(),
                  .num_shards = mesh.dims.dp_shard,
                  .bucket_bytes = bucket_bytes});
    TimeSplit times;
    ParameterSync sync(s.store, mesh, times, s.weights, s.gradients);
    s.store.initialize(box.context(), 1);
    sync.publish_weights(ParameterSync::Changed::all);
    sync.use_others();
    SmallStore whole;
    whole.store.initialize(box.context(), 1);
    for (int step = 1; step <= 2; ++step) {
      s.store.clear_gradients(box.context());
      for (int m = 0; m < 3; ++m) {
        for (const auto& p : s.store.all()) {
          if (p->spec.kind == UnitKind::layer || !p->gradient.data) continue;
          float* g = p->gradient.ptr<float>();
          for (int64_t i = 0; i < p->gradient.num_elements(); ++i) g[i] += float(world.rank() + m);
        }
        for (int layer = 2; layer >= 0; --layer) {
          sync.use_layer(layer, layer - 1);
          const Parameter& p = *s.store.find(fmt::format("p{}", layer));
          EXPECT_EQ(testing::to_doubles(p.weight),
                    testing::to_doubles(whole.store.find(p.spec.name)->weight));
          sync.begin_gradient(box.context(), layer);
          float* g = p.gradient.ptr<float>();
          for (int64_t i = 0; i < p.gradient.num_elements(); ++i) g[i] += float(world.rank() + m);
          sync.end_gradient(box.context(), layer, m == 2);
        }
      }
      sync.stage_complete(0);
      sync.finish_gradients(box.context());
      const double expected = 3.0 * ranks * (ranks - 1) / 2 + 3.0 * ranks;
      for (const auto& p : s.store.all()) {
        for (double x : testing::to_doubles(p->reduced_gradient))
          ASSERT_EQ(x, expected) << p->spec.name << " zero " << zero << " step " << step;
      }
      const Tensor sum = box.zeros(DType::f64, {1});
      for (const auto& p : s.store.all()) {
        for (const ParameterRange& range : ranges_of_shard(*p)) {
          for (int64_t i = range.begin; range.own && i < range.end; ++i) {
            const double x = p->reduced_gradient.ptr<float>()[i - p->begin];
            sum.ptr<double>()[0] += x * x;
          }
        }
      }
      mesh.copy->all_reduce(sum, ReduceOp::sum, {"test"}).wait();
      EXPECT_EQ(sum.ptr<double>()[0], double(s.store.num_parameters()) * expected * expected);
    }
  });
}

TEST(ParameterSync, ReducesAndGathersAtEveryZeroLevel) {
  for (const int64_t bucket_bytes : {1, 400, 1 << 20}) {
    expect_reduced(0, 0, 3, bucket_bytes);
    for (const int zero : {1, 2, 3}) {
      expect_reduced(zero, 0, 1, bucket_bytes);
      expect_reduced(zero, 0, 3, bucket_bytes);
      expect_reduced(zero, 2, 4, bucket_bytes);
    }
  }
}

}  // namespace
}  // namespace forja
