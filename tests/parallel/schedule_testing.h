// SPDX-License-Identifier: Apache-2.0
// What the tests of schedules and of their simulator share: random sizes that a schedule accepts,
// and what the sources of each schedule say of it.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "forja/parallel/schedule.h"
#include "forja/parallel/simulator.h"
#include "tests/testing/testing.h"

namespace forja::testing {

struct ScheduleCase {
  std::string name;
  int num_ranks = 1, virtual_stages = 1, num_microbatches = 1;

  Schedule make() const { return make_schedule(name, num_ranks, virtual_stages, num_microbatches); }
  int stages_per_rank() const { return num_stages(name, num_ranks, virtual_stages) / num_ranks; }
  std::string to_string() const {
    return fmt::format("{} P {} V {} M {}", name, num_ranks, virtual_stages, num_microbatches);
  }
};

// The body for `count` random sizes of every schedule.
template <class Body>
void for_random_cases(int count, Body&& body) {
  std::mt19937 random(7);
  const auto draw = [&](int low, int high) {
    return low + int(random() % uint32_t(high - low + 1));
  };
  for (const std::string& name : schedule_names()) {
    for (int i = 0; i < count; ++i) {
      ScheduleCase c{name, draw(1, 8), 1, draw(1, 20)};
      if (name == "interleaved_1f1b") {
        c.virtual_stages = draw(1, 4);
        c.num_microbatches = c.num_ranks * draw(1, 3);
      }
      if (name == "dualpipe_v") c.num_microbatches += 2 * c.num_ranks - 1;
      SCOPED_TRACE(c.to_string());
      body(c, random);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

// The most micro-batches that a rank keeps, in units of one stage's activations.
inline int memory_bound(const ScheduleCase& c, int rank) {
  const int P = c.num_ranks, M = c.num_microbatches, V = c.stages_per_rank();
  if (c.name == "gpipe") return M;
  if (c.name == "1f1b" || (c.name == "interleaved_1f1b" && V == 1)) return std::min(M, P - rank);
  if (c.name == "interleaved_1f1b") return std::min(V * M, (V - 1) * P + 2 * (P - 1 - rank) + 1);
  if (c.name == "zb_h1") return std::min(M, P);     // 1f1b's on its first rank, on every rank
  if (c.name == "zb_v") return 2 * std::min(M, P);  // the same, of stages half as large
  return 2 * P + 1;                                 // dualpipe_v
}

}  // namespace forja::testing
