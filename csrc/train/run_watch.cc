// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/run_watch.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <set>
#include <thread>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/log.h"

namespace forja {
namespace {

constexpr auto kAbortTime = std::chrono::seconds(10);
constexpr auto kBetweenSignals = std::chrono::milliseconds(500);

// Open MPI's mpirun, asked to end, waits for its daemons on the other hosts; for one that cannot be
// reached until TCP gives up, a quarter of an hour. Asked again within a second, it ends.
void end_mpirun() {
  const pid_t parent = ::getppid();
  std::string name;
  std::getline(std::ifstream(fmt::format("/proc/{}/comm", parent)), name);
  if (name != "mpirun" && name != "orterun" && name != "mpiexec" && name != "prterun") return;
  for (int i = 0; i < 2; ++i) {
    ::kill(parent, SIGTERM);
    std::this_thread::sleep_for(kBetweenSignals);
  }
}

}  // namespace

RunWatch::RunWatch(World& world, double limit_s)
    : world_(world), limit_s_(limit_s), record_(world.rank(), world.hosts()[size_t(world.rank())]) {
  record_.watch(world.communicator(), "world");
  if (limit_s == 0.0) return;
  watchdog_ = std::make_unique<Watchdog>(world, record_, limit_s,
                                         [this](const std::string& why) { end_job(why); });
}

void RunWatch::watch(const Mesh& mesh) {
  for (const Mesh::Group& group : mesh.groups()) {
    if (group.communicator == &world_.communicator()) continue;
    record_.watch(*group.communicator, group.communicator == mesh.world ? "GPUs" : group.name);
  }
}

void RunWatch::keep_in(const std::string& directory) {
  try {
    make_directories(directory);
    record_.keep_in(fmt::format("{}/rank-{:05}", directory, world_.rank()));
  } catch (const Error& e) {
    log_warning("no flight record is kept, the run goes on: {}", e.what());
  }
}

// On the watchdog's thread, while others may hang in a call of the same library.
void RunWatch::end_job(const std::string& why) {
  log_live("");
  log_error(
      "the run is ended, because nothing moves any more for {:.0f} s or a process is gone:\n{}\n"
      "`forja inspect RUN_DIRECTORY/flight` tells what each rank did last. If it was only slow, "
      "raise train.hang_timeout_minutes; the run goes on from its newest checkpoint",
      limit_s_, why);
  std::thread([] {
    std::this_thread::sleep_for(kAbortTime);
    std::_Exit(int(ExitCode::failed));
  }).detach();
  const auto& hosts = world_.hosts();
  if (std::set<std::string>(hosts.begin(), hosts.end()).size() > 1) end_mpirun();
  world_.abort(ExitCode::failed);
}

}  // namespace forja
