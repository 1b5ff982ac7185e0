// SPDX-License-Identifier: Apache-2.0
// forja doctor: what this machine and this launch offer.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>

#include "forja/base/text.h"
#include "forja/base/version.h"
#include "forja/cli/commands.h"
#include "forja/comm/world.h"
#include "forja/device/context.h"
#include "forja/device/cpu_topology.h"
#include "forja/device/gpu.h"
#include "forja/train/flops.h"

namespace forja {
namespace {

void print_launch(World& world, const CpuPlan& cpus) {
  std::map<std::string, int> ranks_of;
  for (const std::string& host : world.hosts()) ++ranks_of[host];
  fmt::print("launch     {} rank{} on {} host{}, started by {}\n", world.size(),
             world.size() == 1 ? "" : "s", ranks_of.size(), ranks_of.size() == 1 ? "" : "s",
             world.launcher());
  for (const auto& [host, count] : ranks_of)
    fmt::print("           {}: {} rank{}\n", host, count, count == 1 ? "" : "s");
  fmt::print("threads    {} a rank: {}\n", cpus.cpus.size(), cpus.reason);
}

void print_gpus() {
  const GpuSurvey survey = survey_gpus();
  fmt::print("gpus       {}\n", survey.summary);
  for (const std::string& gpu : survey.gpus) fmt::print("           {}\n", gpu);
}

void print_speed() {
  Arena workspace("doctor", {}, int64_t(256) << 20);
  const Context context{{}, &workspace};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    fmt::print("matmul     {} {:.0f} GFLOP/s on this rank's threads\n", dtype_name(dtype),
               measure_matmul_flops(context, dtype) * 1e-9);
  }
}

}  // namespace

void add_doctor_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("doctor", "What this machine and this launch offer");
  command->callback([] {
    const std::unique_ptr<World> world = start_world();
    const CpuPlan cpus = plan_cpus(world->local_rank(), world->local_size());
    apply_cpu_plan(cpus);
    if (world->rank() == 0) {
      fmt::print("forja      {} ({})\n", kVersion, kGitRevision);
      fmt::print("cpu        {}, memory {}\n", cpu_model_name(),
                 format_bytes(double(host_memory_bytes())));
      print_launch(*world, cpus);
      print_gpus();
      print_speed();
      std::fflush(stdout);
    }
    world->communicator().barrier({"doctor"}).wait();
  });
}

}  // namespace forja
