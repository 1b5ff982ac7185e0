// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <thread>

#include "forja/parallel/gradient_reducer.h"
#include "forja/parallel/parallel_dims.h"
#include "tests/testing/local_world.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

TEST(ParallelDims, RanksAndCoordinatesAreOneToOne) {
  const ParallelDims dims{2, 3, 2, 4};
  for (int rank = 0; rank < dims.world_size(); ++rank)
    EXPECT_EQ(dims.rank(dims.coordinates(rank)), rank);
  EXPECT_EQ(dims.coordinates(1).tp, 1) << "tp is innermost";
  EXPECT_EQ(
      testing::error_of([&] { dims.check(47); }, ExitCode::bad_input),
      "the layout does not fit the launch: 48 ranks = pp 2 x dp 3 x cp 2 x tp 4, started with 47");
}

TEST(Mesh, GroupsHaveTheRanksOfTheirAxis) {
  const ParallelDims dims{2, 2, 1, 2};
  testing::run_world(8, [&](World& world) {
    const Mesh mesh = make_mesh(world.communicator(), dims);
    EXPECT_EQ(mesh.tp->size(), 2);
    EXPECT_EQ(mesh.tp->rank(), mesh.coordinates.tp);
    EXPECT_EQ(mesh.pp->rank(), mesh.coordinates.pp);
    EXPECT_EQ(mesh.gradient->size(), 2);
    int64_t sum = world.rank();
    mesh.dp->all_reduce(make_tensor(&sum, DType::i64, {1}), ReduceOp::sum, {"test"}).wait();
    auto other = mesh.coordinates;
    other.dp = 1 - other.dp;
    EXPECT_EQ(sum, world.rank() + dims.rank(other));
  });
}

// Three units of one matrix each.
struct SmallStore {
  ParameterStore store{DType::f32, StoreUse::training};
  Arena weights{"weights", {}, 1 << 20}, gradients{"gradients", {}, 1 << 20},
      optimizer{"optimizer", {}, 1 << 20};
  SmallStore() {
    for (int unit = 0; unit < 3; ++unit) {
      ParameterSpec spec;
      spec.name = fmt::format("p{}", unit);
      spec.shape = {10 + unit, 7};
      spec.unit = unit;
      store.declare(spec);
    }
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
  EXPECT_EQ(a.store.num_parameters(), 10 * 7 + 11 * 7 + 12 * 7);
  testing::error_of([&] { a.store.declare(a.store.find("p1")->spec); });
}

TEST(GradientReducer, SumsEveryUnitInBuckets) {
  for (const int64_t bucket_bytes : {int64_t(1), int64_t(400), int64_t(1) << 30}) {
    testing::run_world(3, [&](World& world) {
      SmallStore s;
      GradientReducer reducer(s.store, world.communicator(), bucket_bytes);
      EXPECT_EQ(reducer.buckets().size(), bucket_bytes == 1 ? 3u : bucket_bytes == 400 ? 2u : 1u);
      for (int step = 1; step <= 2; ++step) {
        float* g = s.store.all_gradients().ptr<float>();
        std::fill_n(g, s.store.all_gradients().num_elements(), float(world.rank() + step));
        for (int unit = 2; unit >= 0; --unit) reducer.unit_ready(unit, step);
        reducer.finish();
        for (const auto& p : s.store.all()) {
          for (double x : testing::to_doubles(p->gradient)) ASSERT_EQ(x, 3.0 * step + 3.0);
        }
      }
      testing::error_of([&] { reducer.unit_ready(0, 3); });
    });
  }
}

}  // namespace
}  // namespace forja
