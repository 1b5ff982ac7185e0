// SPDX-License-Identifier: Apache-2.0
// The program of the communication tests: `comm_test` alone, or
// `mpirun -n 3 comm_test --gtest_filter='*/mpi*'`.
#include <thread>

#include "csrc/comm/mpi/mpi_transport.h"
#include "tests/comm/backends.h"

namespace forja::testing {
namespace {

std::unique_ptr<World> g_world;

// Of the other ranks, only failures are of interest.
class FailurePrinter : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", g_world->rank(),
                 result.file_name() ? result.file_name() : "", result.line_number(),
                 result.message());
  }
};

// The world's ranks, on a thread of their own. The world's thread rests meanwhile, as MPI demands
// that only one thread calls it at a time.
void run_mpi(int64_t piece_bytes, const std::function<void(Communicator&)>& body) {
  g_world->communicator().barrier({"between tests"}).wait();
  if (piece_bytes == 0) {
    const auto group = g_world->communicator().split(0, g_world->rank());
    body(*group);
    return;
  }
  const auto group = make_queued_communicator(make_mpi_transport(MPI_COMM_WORLD, piece_bytes),
                                              std::make_shared<CommThread>());
  body(*group);
}

}  // namespace

World* launched_world() { return g_world.get(); }

std::vector<Backend> backends() {
  if (detect_launcher() != "none") return {{"mpi", 0, 0}, {"mpi_pieces", 0, 1000}};
  return {{"self", 0, 0}, {"local1", 1, 0}, {"local2", 2, 0}, {"local3", 3, 0}, {"local4", 4, 0}};
}

void run_ranks(const Backend& backend, const std::function<void(Communicator&)>& body) {
  if (backend.name == "self") return body(*make_self_communicator());
  if (backend.num_threads == 0) return run_mpi(backend.piece_bytes, body);
  const auto ranks = make_local_communicators(backend.num_threads);
  std::vector<std::thread> threads;
  for (const auto& rank : ranks) threads.emplace_back([&body, &rank] { body(*rank); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace forja::testing

int main(int argc, char** argv) {
  using namespace forja::testing;
  ::testing::InitGoogleTest(&argc, argv);
  if (forja::detect_launcher() != "none") {
    g_world = forja::start_world();
    if (g_world->rank() > 0) {
      auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
      delete listeners.Release(listeners.default_result_printer());
      listeners.Append(new FailurePrinter);
    }
  }
  const int result = RUN_ALL_TESTS();
  g_world.reset();
  return result;
}
