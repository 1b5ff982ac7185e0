// SPDX-License-Identifier: Apache-2.0
#include "csrc/cli/run_on_ranks.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "forja/base/log.h"
#include "forja/device/cpu_topology.h"

namespace forja {
namespace {

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

void run_on_ranks(const std::function<ExitCode(World&)>& body) {
  const std::unique_ptr<World> world = start_world();
  set_log_rank(world->rank(), world->size());
  apply_cpu_plan(plan_cpus(world->local_rank(), world->local_size()));
  ExitCode code = ExitCode::ok;
  try {
    code = body(*world);
  } catch (const Error& e) {
    if (world->size() == 1) throw;
    end_all_ranks(*world, e.code(), e.what());
  } catch (const std::exception& e) {
    if (world->size() == 1) throw;
    end_all_ranks(*world, ExitCode::failed, e.what());
  }
  if (code != ExitCode::ok) throw Error(code, "");  // it has been told
}

}  // namespace forja
