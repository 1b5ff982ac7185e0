// SPDX-License-Identifier: Apache-2.0
#include <string_view>
#include <utility>

#include "csrc/train/check_rules.h"
#include "csrc/train/engine_config.h"
#include "forja/base/text.h"
#include "forja/train/choose_device.h"
#include "forja/train/trainer.h"

namespace forja {

std::string describe_plan(const RunConfig& config, int num_ranks) {
  const ParallelDims dims = ParallelDims::from(config.parallel, num_ranks);
  const EngineConfig engine = engine_config(config, planned_device(config.train), dims.dp);
  check_layouts(config, engine, dims);
  // The rank that needs most: a stage of the pipeline may need more than another.
  MemoryPlan plan;
  for (int pp = 0; pp < dims.pp; ++pp) {
    const MemoryPlan of_stage = TrainEngine::plan(engine, dims, dims.rank({pp, 0, 0, 0}));
    if (of_stage.total() > plan.total()) plan = of_stage;
  }
  const int64_t steps = total_steps(config);
  const double tokens =
      double(samples_before_step(config.train, steps + 1)) * double(config.data.sequence_length);
  std::string out = fmt::format("{}\n", config.to_yaml());
  out += fmt::format("parameters      {}\n", count_parameters(config.model));
  if (config.rules().freeze_some())
    out += fmt::format("trained         {}\n", count_trained(config));
  out += fmt::format("layout          {}\n", dims.to_string());
  out += fmt::format(
      "batch           {} sequences = dp {} x micro_batch_size {} x {} micro-batches\n",
      config.train.global_batch_size, dims.dp, engine.micro_batch_size, engine.num_microbatches);
  out += fmt::format("length          {} steps, {} tokens\n", steps, format_count(tokens));
  out += dims.pp > 1 ? "memory of the rank that needs most\n" : "memory a rank\n";
  const std::pair<const char*, int64_t> rows[] = {
      {"weights", plan.weights},     {"gradients", plan.gradients},
      {"optimizer", plan.optimizer}, {"activations", plan.activations()},
      {"inputs", plan.inputs},       {"workspace", plan.workspace},
      {"snapshot", plan.snapshot},   {"total", plan.total()},
      {"host", plan.staging}};
  for (const auto& [name, bytes] : rows) {
    if (bytes == 0 && std::string_view(name) == "host") continue;
    out += fmt::format("  {:<13} {:>12}  ({} bytes)\n", name, format_bytes(double(bytes)), bytes);
  }
  return out;
}

}  // namespace forja
