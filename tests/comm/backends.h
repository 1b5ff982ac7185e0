// SPDX-License-Identifier: Apache-2.0
// The groups that the conformance suite runs over. Alone, the test program has `self` and `local`;
// under mpirun it has `mpi`, with as many ranks as were started.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "forja/comm/world.h"

namespace forja::testing {

struct Backend {
  std::string name;     // "local3"
  int num_threads;      // local: the ranks that this process plays
  int64_t piece_bytes;  // mpi: the largest message; 0: as in a run
};
inline void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }
std::vector<Backend> backends();

// Runs `body` on every rank of a new group, side by side; those of other processes run it there.
void run_ranks(const Backend& backend, const std::function<void(Communicator&)>& body);

// The world of this process under a launcher; made by main().
World* launched_world();

class BackendTest : public ::testing::TestWithParam<Backend> {
 protected:
  void run(const std::function<void(Communicator&)>& body) { run_ranks(GetParam(), body); }
};

inline std::string backend_name(const ::testing::TestParamInfo<Backend>& instance) {
  return instance.param.name;
}

// Tests of `Suite`, a BackendTest, over all backends.
#define FORJA_OVER_BACKENDS(Suite)                                                     \
  INSTANTIATE_TEST_SUITE_P(, Suite, ::testing::ValuesIn(::forja::testing::backends()), \
                           ::forja::testing::backend_name)

}  // namespace forja::testing
