// SPDX-License-Identifier: Apache-2.0
// A checkpoint of any layout continues in any other: every pair of some layouts.
#include <cmath>

#include "forja/checkpoint/checkpoint.h"
#include "tests/testing/testing.h"
#include "tests/train/run_layout.h"

namespace forja {
namespace {

constexpr int64_t kSaved = 2, kSteps = 4;  // saved after step 2 of 4
constexpr StateKind kKinds[] = {StateKind::weight, StateKind::first_moment,
                                StateKind::second_moment};

using States = std::map<std::string, std::vector<float>>;

struct Part {
  States states[3];            // at the checkpoint
  std::vector<double> losses;  // of the steps after it
};

// Steps (kSaved, kSteps], from the checkpoint at `from`; where that is empty, all steps, with one
// saved in `to`.
Part run(const Layout& layout, const std::string& from, const std::string& to) {
  Part part;
  std::mutex mutex;
  EngineConfig config = config_of(layout);
  config.snapshots = !to.empty();
  testing::run_world(layout.ranks(), [&](World& world) {
    omp_set_num_threads(1);
    const ParallelDims dims = ParallelDims::from(config.parallel, world.size());
    Mesh mesh = make_mesh(world.communicator(), dims, mesh_options(config));
    const MemoryPlan plan = TrainEngine::plan(config, dims, world.rank());
    TrainEngine engine(config, mesh, &plan);
    engine.store().initialize(engine.context(), config.seed);
    TrainState state;
    if (!from.empty()) {
      state = load_checkpoint(engine.context(), from, engine.store(), CheckpointUse::training);
      engine.optimizer().set_num_updates(engine.context(), state.num_updates);
    }
    engine.weights_changed();
    CheckpointWriter writer(engine.checkpoint_parts(), {to, "", 0, 0}, world.communicator());
    const int64_t first = mesh.coordinates.dp * config.num_microbatches;
    for (int64_t step = state.step + 1; step <= kSteps; ++step) {
      if (step == kSaved + 1)
        for (const StateKind kind : kKinds) collect(engine, mutex, part.states[size_t(kind)], kind);
      const auto fill_step = [&](int64_t m, const MicroBatch& b) {
        return fill(config.model.vocab_size, step, first + m, b);
      };
      const StepResult r = engine.step(step, kLearningRate, config.num_microbatches, fill_step,
                                       [&](int64_t m) { return (first + m) * layout.length; });
      writer.poll();
      if (step == kSaved)
        writer.begin(engine.context(),
                     {.step = step, .num_updates = engine.optimizer().num_updates()});
      if (step > kSaved && world.rank() == 0) part.losses.push_back(r.loss);
    }
    writer.wait();
    EXPECT_EQ(engine.memory_used().snapshot, plan.snapshot);
  });
  return part;
}

// Every kind of division: rows and columns, key heads on two ranks each, stages, shards of states,
// gradients and weights, with copies of them; tied embeddings on two ranks.
std::vector<Layout> layouts(bool gpt2) {
  return {{.gpt2 = gpt2},
          {.gpt2 = gpt2, .tp = 4},
          {.gpt2 = gpt2, .pp = 2},
          {.gpt2 = gpt2, .dp = 2},
          {.gpt2 = gpt2, .dp = 4, .zero = 1, .dp_shard = 2},
          {.gpt2 = gpt2, .tp = 2, .dp = 2, .zero = 2},
          {.gpt2 = gpt2, .pp = 2, .dp = 2, .zero = 3},
          {.gpt2 = gpt2, .tp = 2, .pp = 2, .dp = 2, .zero = 1}};
}

void check_pairs(bool gpt2) {
  int pairs = 0;
  double worst = 0.0;
  std::vector<Layout> all = layouts(gpt2);
  for (Layout& layout : all) layout.layers = 4;
  for (const Layout& from : all) {
    testing::TemporaryDirectory folder;
    const Part whole = run(from, "", folder.path());
    ASSERT_EQ(whole.losses.size(), size_t(kSteps - kSaved));
    for (const Layout& to : all) {
      SCOPED_TRACE(from.to_string() + " -> " + to.to_string());
      const Part part = run(to, folder.path() + "/latest", "");
      for (const StateKind kind : kKinds)
        EXPECT_TRUE(part.states[size_t(kind)] == whole.states[size_t(kind)]) << int(kind);
      ASSERT_EQ(part.losses.size(), whole.losses.size());
      for (size_t i = 0; i < whole.losses.size(); ++i)
        worst = std::max(worst, std::fabs(part.losses[i] / whole.losses[i] - 1.0));
      EXPECT_LT(worst, 1e-5);
      ++pairs;
    }
  }
  fmt::print("{} pairs; worst relative difference of a loss {:.1e}\n", pairs, worst);
}

TEST(Reshard, OfUntiedEmbeddings) { check_pairs(false); }
TEST(Reshard, OfTiedEmbeddings) { check_pairs(true); }

}  // namespace
}  // namespace forja
