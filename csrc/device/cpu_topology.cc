// SPDX-License-Identifier: Apache-2.0
#include "forja/device/cpu_topology.h"

#include <hwloc.h>
#include <omp.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <string>

#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

// "0-3,8" as numbers.
std::vector<int> parse_cpu_list(const std::string& text) {
  std::vector<int> out;
  for (const std::string& part : split(std::string(trim(text)), ',')) {
    if (part.empty()) continue;
    const size_t dash = part.find('-');
    const int first = std::stoi(part),
              last = dash == part.npos ? first : std::stoi(part.substr(dash + 1));
    for (int cpu = first; cpu <= last; ++cpu) out.push_back(cpu);
  }
  return out;
}

// The cpuset of this process's cgroup (v2), then the whole machine.
std::vector<int> cgroup_cpus() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("0::", 0) != 0) continue;
    std::ifstream cpus("/sys/fs/cgroup" + line.substr(3) + "/cpuset.cpus.effective");
    std::string text;
    if (std::getline(cpus, text) && !text.empty()) return parse_cpu_list(text);
  }
  std::ifstream online("/sys/devices/system/cpu/online");
  std::string text;
  std::getline(online, text);
  return parse_cpu_list(text.empty() ? "0" : text);
}

std::vector<int> affinity_cpus() {
  cpu_set_t set;
  std::vector<int> out;
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return out;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) out.push_back(cpu);
  return out;
}

// Keeps the first hardware thread of each core, in the order of the topology (neighbours share
// caches).
std::vector<int> one_per_core(const std::vector<int>& cpus) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return cpus;
  const std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)> topology(
      raw, &hwloc_topology_destroy);
  hwloc_topology_set_flags(raw, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
  hwloc_topology_set_all_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
  if (hwloc_topology_load(raw) != 0) return cpus;
  std::vector<int> out;
  for (hwloc_obj_t core = nullptr;
       (core = hwloc_get_next_obj_by_type(raw, HWLOC_OBJ_CORE, core));) {
    for (int cpu : cpus) {
      if (!hwloc_bitmap_isset(core->cpuset, unsigned(cpu))) continue;
      out.push_back(cpu);
      break;
    }
  }
  return out.empty() ? cpus : out;
}

// Did the user choose a binding, rather than mpirun by default?
bool user_bound() {
  for (const char* name :
       {"OMPI_MCA_hwloc_base_binding_policy", "PRTE_MCA_hwloc_default_binding_policy",
        "SLURM_CPU_BIND_TYPE", "OMP_PLACES", "GOMP_CPU_AFFINITY", "OMP_PROC_BIND"}) {
    const char* value = std::getenv(name);
    if (value && *value && std::string(value) != "none") return true;
  }
  // --map-by node only says where ranks go; --map-by node:PE=4 also gives each of them four cores.
  const char* mapping = std::getenv("OMPI_MCA_rmaps_base_mapping_policy");
  return mapping && ::strcasestr(mapping, "pe=");
}

}  // namespace

CpuPlan plan_cpus(int local_rank, int local_size) {
  CpuPlan plan;
  if (user_bound()) {
    plan.cpus = one_per_core(affinity_cpus());
    plan.bind = false;
    plan.reason = "bound by the user or the launcher's options";
    return plan;
  }
  const std::vector<int> cores = one_per_core(cgroup_cpus());
  const int n = int(cores.size());
  if (local_size > n) {
    plan.cpus = {cores[size_t(local_rank % n)]};
    plan.bind = false;
    plan.reason = fmt::format("{} ranks share {} cores: not bound", local_size, n);
    return plan;
  }
  const int begin = n * local_rank / local_size, end = n * (local_rank + 1) / local_size;
  plan.cpus.assign(cores.begin() + begin, cores.begin() + end);
  plan.reason = fmt::format("{} of {} cores", end - begin, n);
  return plan;
}

void apply_cpu_plan(const CpuPlan& plan) {
  int threads = int(plan.cpus.size());
  if (const char* wanted = std::getenv("OMP_NUM_THREADS")) {
    const int value = std::atoi(wanted);
    if (value > 0) threads = std::min(threads, value);
  }
  omp_set_num_threads(threads);
  omp_set_dynamic(0);
  if (!plan.bind) return;
  // The process may use all its cores (the communication thread is not pinned); each compute thread
  // one.
  cpu_set_t all;
  CPU_ZERO(&all);
  for (int cpu : plan.cpus) CPU_SET(cpu, &all);
  ::sched_setaffinity(::getpid(), sizeof(all), &all);
#pragma omp parallel num_threads(threads)
  {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(plan.cpus[size_t(omp_get_thread_num())], &one);
    ::sched_setaffinity(0, sizeof(one), &one);
  }
}

std::vector<int> team_cpus() {
  std::set<int> cpus;
#pragma omp parallel
  {
    const std::vector<int> own = affinity_cpus();
#pragma omp critical
    cpus.insert(own.begin(), own.end());
  }
  return {cpus.begin(), cpus.end()};
}

void run_on_cpus(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int cpu : cpus) CPU_SET(cpu, &set);
  ::sched_setaffinity(0, sizeof(set), &set);
}

std::string cpu_model_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) == 0) return std::string(trim(line.substr(line.find(':') + 1)));
  }
  return "unknown CPU";
}

int64_t host_memory_bytes() {
  return int64_t(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE);
}

int64_t peak_resident_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t(usage.ru_maxrss) * 1024;
}

}  // namespace forja
