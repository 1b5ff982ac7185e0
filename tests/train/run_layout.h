// SPDX-License-Identifier: Apache-2.0
// Trains a small model in a layout, on ranks that are threads of this process.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "forja/base/dispatch.h"
#include "forja/ops/matmul_choices.h"
#include "tests/testing/local_world.h"
#include "tests/train/small_run.h"

namespace forja {

constexpr double kLearningRate = 1e-3;

struct Result {
  std::vector<double> losses, norms;
  double evaluation = 0.0;
  double margin = 0.0;  // the sum of what engine.score() gives
  std::map<std::string, std::vector<float>> initial, final;
};

// Puts this rank's part of a state of every parameter into the full ones.
inline void collect(TrainEngine& engine, std::mutex& mutex,
                    std::map<std::string, std::vector<float>>& out,
                    StateKind kind = StateKind::weight) {
  std::lock_guard lock(mutex);
  for (const auto& p : engine.store().all()) {
    auto& full = out[p->spec.name];
    full.resize(size_t(p->spec.num_elements()));
    for_each_run(p->block, p->begin, p->end, [&](const ElementRun& run) {
      const int64_t at = run.local - p->begin;
      const Tensor from = shard_of(*p, kind).slice(0, at, at + run.count);
      std::vector<uint8_t> bytes(size_t(from.num_bytes()));
      copy_bytes(engine.context(), bytes.data(), from.data, from.num_bytes());
      synchronize(engine.context());
      dispatch_float(from.dtype, [&]<class T>() {
        const auto* values = reinterpret_cast<const T*>(bytes.data());
        for (int64_t i = 0; i < run.count; ++i) full[size_t(run.full + i)] = float(values[i]);
      });
    });
  }
}

// Other communicators between the same ranks; null: the world's.
using MakeRanks = std::function<std::unique_ptr<Communicator>(Communicator& world)>;

inline Result train(const Layout& layout, const MakeRanks& make_ranks = nullptr) {
  Result result;
  std::mutex mutex;
  const EngineConfig config_of_all = config_of(layout);
  testing::run_world(layout.ranks(), [&](World& world) {
    omp_set_num_threads(1);
    EngineConfig config = config_of_all;
    MatmulChoices choices("a machine of tests");
    config.matmul_choices = &choices;
    const ParallelDims dims = ParallelDims::from(config.parallel, world.size());
    check_layout(config, dims);
    const auto ranks = make_ranks ? make_ranks(world.communicator()) : nullptr;
    Mesh mesh = make_mesh(ranks ? *ranks : world.communicator(), dims, mesh_options(config));
    const MemoryPlan plan = TrainEngine::plan(config, dims, world.rank());
    choices.settle("", {world.rank(), [&](const std::string& mine) {
                          return all_gather_text(world.communicator(), mine, {"choices"});
                        }});
    TrainEngine engine(config, mesh, &plan);
    engine.store().initialize(engine.context(), config.seed);
    engine.weights_changed();
    collect(engine, mutex, result.initial);
    const int64_t first = mesh.coordinates.dp * config.num_microbatches;
    const auto fill_of = [&](int64_t step) {
      return [&, step](int64_t m, const MicroBatch& b) {
        return fill(config.model.vocab_size, step, first + m, b);
      };
    };
    for (int64_t step = 1; step <= layout.steps; ++step) {
      const StepResult r = engine.step(step, kLearningRate, config.num_microbatches, fill_of(step),
                                       [&](int64_t m) { return (first + m) * layout.length; });
      if (world.rank() > 0) continue;
      result.losses.push_back(r.loss);
      result.norms.push_back(r.gradient_norm);
    }
    const auto sums = engine.evaluate(config.num_microbatches, fill_of(99));
    if (world.rank() == 0) result.evaluation = -sums.sum_log_probability / double(sums.num_targets);
    double scored = 0.0, margin = 0.0;  // of this rank; rows without a target count 0
    engine.score(config.num_microbatches, fill_of(99),
                 [&](int64_t, const Tensor& log_probabilities, const Tensor& margins) {
                   for (int64_t i = 0; i < layout.length; ++i) {
                     scored += double(log_probabilities.ptr<float>()[i]);
                     margin += double(margins.ptr<float>()[i]);
                   }
                 });
    for (double* sum : {&scored, &margin})
      world.communicator()
          .all_reduce(make_tensor(sum, DType::f64, {1}), ReduceOp::sum, {"scores"})
          .wait();
    // Of pairs, evaluation sums no log-probabilities.
    if (!layout.preference.is_on()) {
      EXPECT_NEAR(scored, sums.sum_log_probability, 1e-9 * std::abs(scored));
    }
    if (world.rank() == 0) result.margin = margin;
    collect(engine, mutex, result.final);
    EXPECT_EQ(engine.memory_used(), plan) << "rank " << world.rank();
    // Every product of a step on a GPU was met while planning.
    EXPECT_EQ(choices.num_wanted() > 0, !config.device.is_cpu());
    EXPECT_EQ(choices.num_unknown(), 0);
  });
  return result;
}

}  // namespace forja
