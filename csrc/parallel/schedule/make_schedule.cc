// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "csrc/parallel/schedule/internal.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/text.h"

namespace forja {
namespace {

enum class Placement {
  one,     // a stage a rank
  looped,  // virtual_stages a rank, stage s on rank s mod P
  v,       // two a rank
};

struct Algorithm {
  const char* name;
  Placement placement;
  void (*generate)(Schedule&);
};

const Algorithm kAlgorithms[] = {
    {"gpipe", Placement::one, generate_gpipe},
    {"1f1b", Placement::one, generate_1f1b},
    {"interleaved_1f1b", Placement::looped, generate_interleaved_1f1b},
    {"zb_h1", Placement::one, generate_zb_h1},
    {"zb_v", Placement::v, generate_zb_v},
    {"dualpipe_v", Placement::v, generate_dualpipe_v},
};

const Algorithm& find_algorithm(const std::string& name) {
  for (const Algorithm& algorithm : kAlgorithms) {
    if (name == algorithm.name) return algorithm;
  }
  const std::string near = nearest_name(name, schedule_names());
  if (!near.empty()) fail_input("unknown schedule {}; did you mean {}?", name, near);
  fail_input("unknown schedule {}; known: {}, or a file that ends in .csv", name,
             join(schedule_names(), ", "));
}

void check_sizes(const std::string& name, int num_ranks, int virtual_stages, int num_microbatches) {
  if (num_ranks < 1 || virtual_stages < 1 || num_microbatches < 1) {
    fail_input(
        "schedule {} needs at least one rank, stage and micro-batch, found {} ranks, {} virtual "
        "stages, {} micro-batches",
        name, num_ranks, virtual_stages, num_microbatches);
  }
}

void check_microbatches(const Algorithm& algorithm, const Schedule& schedule) {
  const int num_ranks = schedule.num_ranks(), num_microbatches = schedule.num_microbatches;
  if (algorithm.generate == generate_interleaved_1f1b && num_microbatches % num_ranks != 0) {
    fail_input(
        "schedule interleaved_1f1b needs a multiple of its {} ranks as number of micro-batches, "
        "found {}",
        num_ranks, num_microbatches);
  }
  if (algorithm.generate == generate_dualpipe_v && num_microbatches < 2 * num_ranks) {
    fail_input(
        "schedule dualpipe_v needs at least two micro-batches for each of its {} ranks, {}, "
        "found {}",
        num_ranks, 2 * num_ranks, num_microbatches);
  }
}

}  // namespace

const std::vector<std::string>& schedule_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Algorithm& algorithm : kAlgorithms) out.push_back(algorithm.name);
    return out;
  }();
  return names;
}

bool is_schedule_file(std::string_view name) { return name.ends_with(".csv"); }

int num_stages(const std::string& name, int num_ranks, int virtual_stages) {
  if (is_schedule_file(name)) return num_ranks * virtual_stages;
  switch (find_algorithm(name).placement) {
    case Placement::looped:
      return num_ranks * virtual_stages;
    case Placement::v:
      if (virtual_stages > 2) {
        fail_input("schedule {} has 2 stages a rank, found virtual_stages {}", name,
                   virtual_stages);
      }
      return num_ranks * 2;
    case Placement::one:
      break;
  }
  if (virtual_stages != 1) {
    fail_input(
        "schedule {} has 1 stage a rank, found virtual_stages {} (interleaved_1f1b takes several)",
        name, virtual_stages);
  }
  return num_ranks;
}

Schedule make_schedule(const std::string& name, int num_ranks, int virtual_stages,
                       int num_microbatches) {
  check_sizes(name, num_ranks, virtual_stages, num_microbatches);
  if (is_schedule_file(name)) {
    return parse_schedule(read_file(name), name, num_ranks, virtual_stages, num_microbatches);
  }
  Schedule schedule;
  schedule.name = name;
  schedule.num_microbatches = num_microbatches;
  schedule.rank_of_stage.resize(size_t(num_stages(name, num_ranks, virtual_stages)));
  schedule.actions.resize(size_t(num_ranks));
  Algorithm algorithm = find_algorithm(name);
  // With one stage a rank there is nothing to interleave, and nothing to ask of M.
  if (schedule.num_stages() == num_ranks && algorithm.placement == Placement::looped)
    algorithm.generate = generate_1f1b;
  check_microbatches(algorithm, schedule);
  for (int s = 0; s < schedule.num_stages(); ++s) {
    const bool going_up = algorithm.placement == Placement::v && s >= num_ranks;
    schedule.rank_of_stage[size_t(s)] = going_up ? 2 * num_ranks - 1 - s : s % num_ranks;
  }
  algorithm.generate(schedule);
  return schedule;
}

}  // namespace forja
