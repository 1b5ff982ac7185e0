// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/verify_layout.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "forja/base/log.h"
#include "forja/device/cpu_topology.h"

namespace forja {
namespace {

struct Outcome {
  double loss = 0.0, gradient_norm = 0.0;
};

Outcome run_step(const FirstStep& first, const EngineConfig& config, const ParallelDims& dims,
                 Communicator& group) {
  Mesh mesh = make_mesh(group, dims, mesh_options(config));
  const MemoryPlan plan = TrainEngine::plan(config, dims, group.rank());
  TrainEngine engine(config, mesh, &plan);
  first.load(engine);
  engine.weights_changed();
  const int64_t micro = config.micro_batch_size,
                begin = mesh.coordinates.dp * (first.batch_size / dims.dp);
  const StepResult result = engine.step(
      first.step, 0.0, first.batch_size / dims.dp / micro,
      [&](int64_t m, const MicroBatch& b) { return first.fill(begin + m * micro, micro, b); },
      [&](int64_t m) { return (begin + m * micro) * config.sequence_length; });
  return {result.loss, result.gradient_norm};
}

struct Candidate {
  EngineConfig config;
  ParallelDims dims;
};

// Nothing where the batch does not divide over dp ranks.
std::optional<EngineConfig> config_of(const FirstStep& first, int dp) {
  if (first.batch_size % dp != 0) return std::nullopt;
  try {
    return first.config(dp);
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Data parallelism alone, over as many ranks as divide the batch; with ZeRO-3 where whole weights
// do not fit.
std::optional<Candidate> simplest_layout(const FirstStep& first, World& world) {
  const int64_t room = host_memory_bytes() / world.local_size();
  for (const int64_t zero : {0, 3}) {
    for (int dp = world.size(); dp >= 1; --dp) {
      const std::optional<EngineConfig> config = config_of(first, dp);
      if (!config) continue;
      Candidate c{*config, {}};
      const ParallelConfig chosen = c.config.parallel;
      c.config.parallel = {};
      c.config.parallel.zero = zero;
      c.config.parallel.bucket_mb = chosen.bucket_mb;
      c.dims = ParallelDims::from(c.config.parallel, dp);
      if (TrainEngine::plan(c.config, c.dims).total() <= room) return c;
      break;  // fewer ranks need no less
    }
  }
  return std::nullopt;
}

double difference(double a, double b) { return std::fabs(a - b) / std::max(std::fabs(b), 1e-30); }

}  // namespace

void verify_layout(const FirstStep& first, const ParallelDims& dims, World& world) {
  const std::optional<Candidate> simple = simplest_layout(first, world);
  if (!simple) {
    fail_input(
        "train.verify_layout: the model fits into the memory of these ranks in no layout simpler "
        "than {}; check a model with fewer layers",
        dims.to_string());
  }
  // Ranks beyond the simple layout look on.
  const bool takes_part = world.rank() < simple->dims.world_size();
  const auto group = world.communicator().split(takes_part ? 0 : 1, world.rank());
  Outcome expected;
  if (takes_part) expected = run_step(first, simple->config, simple->dims, *group);
  std::array<double, 2> values{expected.loss, expected.gradient_norm};
  world.communicator()
      .broadcast(make_tensor(values.data(), DType::f64, {2}), 0, {"verify layout"})
      .wait();
  expected = {values[0], values[1]};
  const EngineConfig config = first.config(dims.dp);
  const Outcome found = run_step(first, config, dims, world.communicator());
  // Sums in another order: rounding of fp32 sums, or of bf16 activations.
  const bool bf16 = config.compute_dtype == DType::bf16;
  const double loss_bound = bf16 ? 2e-3 : 1e-5, norm_bound = bf16 ? 3e-2 : 1e-4;
  const std::string numbers = fmt::format(
      "loss {:.7f} and {:.7f} (relative difference {:.1e}), gradient norm {:.6f} and {:.6f} "
      "({:.1e})",
      found.loss, expected.loss, difference(found.loss, expected.loss), found.gradient_norm,
      expected.gradient_norm, difference(found.gradient_norm, expected.gradient_norm));
  const bool agree = difference(found.loss, expected.loss) <= loss_bound &&
                     difference(found.gradient_norm, expected.gradient_norm) <= norm_bound;
  if (!agree) {
    fail("train.verify_layout: {} does not compute what {} does: {}; allowed are {:.0e} and {:.0e}",
         dims.to_string(), simple->dims.to_string(), numbers, loss_bound, norm_bound);
  }
  log_info("verify_layout: {} computes what {} does: {}", dims.to_string(),
           simple->dims.to_string(), numbers);
}

}  // namespace forja
