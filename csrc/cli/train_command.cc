// SPDX-License-Identifier: Apache-2.0
// forja train CONFIG [key=value ...] [--dry-run]
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "csrc/cli/checks.h"
#include "forja/base/log.h"
#include "forja/cli/commands.h"
#include "forja/comm/world.h"
#include "forja/device/cpu_topology.h"
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

// A failure of one rank ends all of them. Most failures happen on every rank at once: the lowest
// one tells, and the others give it time to.
void end_all_ranks(World& world, ExitCode code, const char* message) {
  if (world.rank() > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(4000 + 100 * std::min(world.rank(), 20)));
  }
  log_live("");
  log_error("{}", message);
  world.abort(code);
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
  command->callback([arguments] {
    const std::unique_ptr<World> world = start_world();
    set_log_rank(world->rank(), world->size());
    apply_cpu_plan(plan_cpus(world->local_rank(), world->local_size()));
    ExitCode code = ExitCode::ok;
    try {
      code = run_train(*arguments, *world);
    } catch (const Error& e) {
      if (world->size() == 1) throw;
      end_all_ranks(*world, e.code(), e.what());
    } catch (const std::exception& e) {
      if (world->size() == 1) throw;
      end_all_ranks(*world, ExitCode::failed, e.what());
    }
    if (code != ExitCode::ok) throw Error(code, "");  // it has been told
  });
}

}  // namespace forja
