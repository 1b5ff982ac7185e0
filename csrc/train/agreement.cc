// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/agreement.h"

#include "forja/base/error.h"

namespace forja {

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

}  // namespace forja
