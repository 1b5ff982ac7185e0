// SPDX-License-Identifier: Apache-2.0
#include "forja/comm/world.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "csrc/comm/mpi/mpi_world.h"

namespace forja {

std::string detect_launcher() {
  if (std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PRTE_LAUNCHED")) return "mpirun";
  // srun sets SLURM_PROCID; a batch script does too, but without a step's launch node address.
  if (std::getenv("SLURM_PROCID") && (std::getenv("PMIX_RANK") || std::getenv("PMI_RANK")))
    return "srun";
  if (std::getenv("PMIX_RANK") || std::getenv("PMI_RANK")) return "mpiexec";
  return "none";
}

namespace {

class SingleWorld : public World {
 public:
  SingleWorld() : communicator_(make_self_communicator()) {
    char name[256] = "";
    ::gethostname(name, sizeof(name) - 1);
    hosts_.push_back(name);
  }
  Communicator& communicator() override { return *communicator_; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  const std::vector<std::string>& hosts() const override { return hosts_; }
  std::string launcher() const override { return "none"; }
  [[noreturn]] void abort(ExitCode code) override { std::_Exit(int(code)); }

 private:
  std::unique_ptr<Communicator> communicator_;
  std::vector<std::string> hosts_;
};

// How many processes the launcher says that it started; 0 where it does not say.
int num_launched() {
  // mpirun may start its helpers by srun, whose variables the ranks then have too: its own first.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (const char* text = std::getenv(name)) return std::atoi(text);
  }
  return 0;
}

// As many worlds of one as processes would all write the same run directory. The first process
// tells; the others, which know nothing of each other but their numbers, give it time to.
[[noreturn]] void refuse_separate_processes() {
  for (const char* name : {"PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    const char* rank = std::getenv(name);
    if (!rank || std::atoi(rank) == 0) continue;
    std::this_thread::sleep_for(std::chrono::seconds(1));
    throw Error(ExitCode::bad_input, "");
  }
  fail_input(
      "the launcher started {} processes that do not find each other, so each would be a run of "
      "its own. Under Slurm: srun --mpi=pmix (srun --mpi=list says whether it is there), or mpirun "
      "inside the job; elsewhere: the mpirun of the MPI library that forja was built with",
      num_launched());
}

}  // namespace

std::unique_ptr<World> start_world() {
  const std::string launcher = detect_launcher();
  std::unique_ptr<World> world;
  if (launcher == "none") {
    world = std::make_unique<SingleWorld>();
  } else {
    world = start_mpi_world(launcher);
  }
  if (world->size() == 1 && num_launched() > 1) refuse_separate_processes();
  return world;
}

}  // namespace forja
