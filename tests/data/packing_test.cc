// SPDX-License-Identifier: Apache-2.0
#include "forja/data/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace forja {
namespace {

// Every item once, no row empty or overfull.
void expect_whole(const Packing& packing, const std::vector<int32_t>& lengths, int64_t capacity) {
  std::vector<int> seen(lengths.size(), 0);
  for (int64_t r = 0; r < packing.num_rows(); ++r) {
    int64_t used = 0;
    for (int64_t i = packing.begins[size_t(r)]; i < packing.begins[size_t(r) + 1]; ++i) {
      const size_t item = size_t(packing.items[size_t(i)]);
      used += lengths[item];
      ++seen[item];
    }
    EXPECT_GT(used, 0);
    EXPECT_LE(used, capacity);
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), int64_t(lengths.size()));
}

TEST(Packing, EveryItemOnceInRowsThatHoldThem) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    const int64_t capacity = 1 + int64_t(random() % 100);
    std::vector<int32_t> lengths(random() % 200);
    for (int32_t& length : lengths) length = 1 + int32_t(random() % uint64_t(capacity));
    const Packing packing = pack_best_fit(lengths, capacity);
    expect_whole(packing, lengths, capacity);
    // No two rows fit into one, so at most one is less than half full.
    const int64_t total = std::accumulate(lengths.begin(), lengths.end(), int64_t(0));
    EXPECT_LE((packing.num_rows() - 1) * (capacity + 1), 2 * total);
    const Packing again = pack_best_fit(lengths, capacity);
    EXPECT_EQ(packing.items, again.items);
    EXPECT_EQ(packing.begins, again.begins);
  }
}

TEST(Packing, BestFitDecreasingByHand) {
  const std::vector<int32_t> lengths = {3, 7, 5, 2, 4, 6, 3};  // 30 in rows of 10
  const Packing packing = pack_best_fit(lengths, 10);
  EXPECT_EQ(packing.begins, (std::vector<int64_t>{0, 2, 4, 7}));
  EXPECT_EQ(packing.items, (std::vector<int64_t>{1, 0, 5, 4, 2, 6, 3}));  // 7 3 | 6 4 | 5 3 2
}

TEST(Packing, OneItemARow) {
  const Packing packing = pack_none(3);
  EXPECT_EQ(packing.begins, (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(packing.items, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(pack_best_fit({}, 10).num_rows(), 0);
}

}  // namespace
}  // namespace forja
