// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/agreement.h"

#include <chrono>
#include <filesystem>
#include <thread>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/hash.h"

namespace forja {
namespace {

constexpr std::chrono::seconds kPatience{10};

// 0 where it is not there.
uint64_t hash_of_file(const std::string& path) {
  return std::filesystem::exists(path) ? hash_text(read_file(path)) : 0;
}

}  // namespace

void agree_on(Communicator& world, const std::string& what, uint64_t hash) {
  int64_t values[2] = {int64_t(hash >> 1), -int64_t(hash >> 1)};
  world.all_reduce(make_tensor(values, DType::i64, {2}), ReduceOp::max, {"agreement"}).wait();
  if (values[0] != -values[1]) fail_input("the ranks do not have the same {}", what);
}

std::string first_of_ranks(Communicator& world, std::string mine) {
  constexpr int64_t kBytes = 1024;
  const CommLabel label{"message"};
  int64_t first = mine.empty() ? world.size() : world.rank();
  world.all_reduce(make_tensor(&first, DType::i64, {1}), ReduceOp::min, label).wait();
  if (first == world.size()) return "";
  mine.resize(size_t(kBytes), '\0');
  mine.back() = '\0';
  world.broadcast(make_tensor(mine.data(), DType::u8, {kBytes}), int(first), label).wait();
  return world.size() > 1 ? fmt::format("{} (rank {})", mine.c_str(), first) : mine.c_str();
}

void check_shared(World& world, const std::string& file) {
  const bool wrote_it = world.rank() == 0;
  uint64_t expected = wrote_it ? hash_of_file(file) : 0;
  world.communicator()
      .broadcast(make_tensor(&expected, DType::i64, {1}), 0, {"shared folder"})
      .wait();
  const auto end = std::chrono::steady_clock::now() + kPatience;
  bool sees = wrote_it || hash_of_file(file) == expected;
  while (!sees && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    sees = hash_of_file(file) == expected;
  }
  const std::string host = world.hosts()[size_t(world.rank())];
  const std::string problem = first_of_ranks(world.communicator(), sees ? "" : "host " + host);
  if (problem.empty()) return;
  fail_input(
      "{} does not see {} as host {} has written it: the run directory has to be in a folder that "
      "all hosts share; give another output",
      problem, file, world.hosts()[0]);
}

}  // namespace forja
