// SPDX-License-Identifier: Apache-2.0
// forja plan CONFIG [key=value ...] --schedule [--ranks N] [--svg FILE] [--csv FILE]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "csrc/cli/checks.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/cli/commands.h"
#include "forja/parallel/parallel_dims.h"
#include "forja/parallel/schedule.h"
#include "forja/parallel/simulator.h"
#include "forja/plan/schedule_report.h"
#include "forja/plan/timeline_svg.h"
#include "forja/train/run_config.h"

namespace forja {
namespace {

struct PlanArguments {
  std::string config;
  std::vector<std::string> overrides;
  bool schedule = false;
  int ranks = 0;  // 0: one pipeline
  std::string svg, csv;
};

// Pipelines of a size that nobody has, which would take the machine's memory: of actions, or more
// ranks than an int counts.
void check_size(const ParallelConfig& parallel, const TrainConfig& train) {
  constexpr double kMaxForwards = 1 << 21;
  const double ranks = double(parallel.pp) * double(parallel.cp) * double(parallel.tp);
  const double microbatches =
      train.micro_batch_size > 0
          ? std::ceil(double(train.global_batch_size) / double(train.micro_batch_size))
          : 1.0;
  const double forwards = ranks * double(parallel.virtual_stages) * microbatches;
  if (forwards <= kMaxForwards) return;
  fail_input(
      "too large to simulate: pp {} x cp {} x tp {} x virtual_stages {} x {} micro-batches is more "
      "than {}",
      parallel.pp, parallel.cp, parallel.tp, parallel.virtual_stages, microbatches, kMaxForwards);
}

void write_output(const std::string& file, const std::string& contents) {
  if (file.empty()) return;
  write_file(file, contents);
  log_info("wrote {} ({})", file, format_bytes(double(contents.size())));
}

void plan_schedule(const PlanArguments& arguments) {
  const RunConfig config = read_run_config(arguments.config, arguments.overrides);
  const ParallelConfig& parallel = config.parallel;
  check_size(parallel, config.train);
  const int one_pipeline = int(parallel.pp * parallel.cp * parallel.tp);
  const ParallelDims dims =
      ParallelDims::from(parallel, arguments.ranks > 0 ? arguments.ranks : one_pipeline);
  const BatchShape shape = split_batch(config.train, config.train.global_batch_size, dims.dp);
  const Schedule schedule = make_schedule(parallel.schedule, dims.pp, int(parallel.virtual_stages),
                                          int(shape.num_microbatches));
  const Simulation simulation = simulate(schedule, unit_times(schedule));
  for (const std::string& file : {arguments.svg, arguments.csv}) {
    if (!file.empty()) check_output_file(file);
  }
  std::string text = fmt::format("layout          {}\n", dims.to_string());
  text += fmt::format(
      "batch           {} sequences = dp {} x micro_batch_size {} x {} micro-batches\n",
      config.train.global_batch_size, dims.dp, shape.micro_batch_size, shape.num_microbatches);
  text += describe_schedule(schedule, simulation);
  std::fputs(text.c_str(), stdout);
  write_output(arguments.svg,
               render_timeline_svg(schedule, simulation, summarize_schedule(schedule, simulation)));
  write_output(arguments.csv, to_csv(schedule));
}

}  // namespace

void add_plan_command(CLI::App& app) {
  auto arguments = std::make_shared<PlanArguments>();
  CLI::App* command = app.add_subcommand("plan", "What a layout costs before anything runs");
  command->add_option("config", arguments->config, "The run's YAML file")->required();
  command->add_option("overrides", arguments->overrides,
                      "key=value, e.g. parallel.pp=4: changes a key of the file");
  command
      ->add_flag("--schedule", arguments->schedule,
                 "The pipeline schedule: its bubble and its activations, from a simulation")
      ->required();
  command
      ->add_option("--ranks", arguments->ranks,
                   "Ranks of the launch, a multiple of pp x cp x tp; one pipeline unless given")
      ->check(number_from(1));
  command->add_option("--svg", arguments->svg, "Draw the schedule's timeline into this file");
  command->add_option("--csv", arguments->csv,
                      "Write the schedule into this file, for parallel.schedule to name");
  command->callback([arguments] { plan_schedule(*arguments); });
}

}  // namespace forja
