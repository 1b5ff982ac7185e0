// SPDX-License-Identifier: Apache-2.0
// forja train CONFIG [key=value ...] [--dry-run]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "csrc/cli/checks.h"
#include "csrc/cli/run_on_ranks.h"
#include "forja/cli/commands.h"
#include "forja/comm/world.h"
#include "forja/train/run_config.h"
#include "forja/train/trainer.h"

namespace forja {
namespace {

struct TrainArguments {
  std::string config;
  std::vector<std::string> overrides;
  bool dry_run = false;
  int ranks = 0;
};

ExitCode run_train(const TrainArguments& arguments, World& world) {
  const RunConfig config = read_run_config(arguments.config, arguments.overrides);
  if (arguments.dry_run) {
    const std::string plan =
        describe_plan(config, arguments.ranks > 0 ? arguments.ranks : world.size());
    if (world.rank() == 0) std::fputs(plan.c_str(), stdout);
    return ExitCode::ok;
  }
  return train(config, world);
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command =
      app.add_subcommand("train", "Pretrain or fine-tune a model; alone or under mpirun or srun");
  command->add_option("config", arguments->config, "The run's YAML file")->required();
  command->add_option("overrides", arguments->overrides,
                      "key=value, e.g. train.steps=100: changes a key of the file");
  CLI::Option* dry_run =
      command->add_flag("--dry-run", arguments->dry_run,
                        "Print the resolved run, its layout and its memory; train nothing");
  command->add_option("--ranks", arguments->ranks, "With --dry-run: plan for this many ranks")
      ->check(number_from(1))
      ->needs(dry_run);
  command->callback(
      [arguments] { run_on_ranks([&](World& world) { return run_train(*arguments, world); }); });
}

}  // namespace forja
