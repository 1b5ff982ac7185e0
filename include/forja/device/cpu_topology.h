// SPDX-License-Identifier: Apache-2.0
// The cores that a rank computes on. mpirun binds a lone rank to one core and knows nothing of
// threads, so Forja divides the cores of the job (its cgroup's cpuset) among the ranks of a node
// and binds its threads itself, unless the user asked for a binding.
#pragma once

#include <string>
#include <vector>

namespace forja {

struct CpuPlan {
  std::vector<int> cpus;  // operating-system numbers, one hardware thread a core; one compute
                          // thread runs on each
  bool bind = true;       // false: the user bound the process, or there are more ranks than cores
  std::string reason;     // in words, for `forja doctor`
};

// The cores of local rank `local_rank` among `local_size` on this node.
CpuPlan plan_cpus(int local_rank, int local_size);

// Sets the number of OpenMP threads of the calling thread and binds them. Overrides OMP_NUM_THREADS
// only downwards: a smaller number there is kept.
void apply_cpu_plan(const CpuPlan& plan);

// The cores that the calling thread's OpenMP team may run on, and a thread that may run on any of
// them: it begins bound as the one that made it.
std::vector<int> team_cpus();
void run_on_cpus(const std::vector<int>& cpus);

std::string cpu_model_name();
int64_t host_memory_bytes();
// Peak resident memory of this process.
int64_t peak_resident_bytes();

}  // namespace forja
