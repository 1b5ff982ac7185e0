// SPDX-License-Identifier: Apache-2.0
#include "forja/comm/world.h"

#include <unistd.h>

#include <cstdlib>

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

}  // namespace

std::unique_ptr<World> start_world() {
  const std::string launcher = detect_launcher();
  if (launcher == "none") return std::make_unique<SingleWorld>();
  return start_mpi_world(launcher);
}

}  // namespace forja
