// SPDX-License-Identifier: Apache-2.0
// All ranks of a launch. MPI is initialised only under a launcher (mpirun, srun); alone, a process
// is a world of one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "forja/base/error.h"
#include "forja/comm/communicator.h"

namespace forja {

class World {
 public:
  virtual ~World() = default;
  virtual Communicator& communicator() = 0;
  int rank() { return communicator().rank(); }
  int size() { return communicator().size(); }
  // Among the ranks of this host.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  // The host of every rank.
  virtual const std::vector<std::string>& hosts() const = 0;
  // What started this process: "mpirun", "srun", "mpiexec" or "none".
  virtual std::string launcher() const = 0;
  // Ends every rank with this exit code. Does not return.
  [[noreturn]] virtual void abort(ExitCode code) = 0;
};

// The launcher named by the environment, or "none".
std::string detect_launcher();

// Starts MPI when there is a launcher. Throws where the launcher started several processes that are
// a world of one each, as srun without PMIx does: the first with a message, the others without.
std::unique_ptr<World> start_world();

}  // namespace forja
