// SPDX-License-Identifier: Apache-2.0
#include "forja/data/packing.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "forja/base/error.h"

namespace forja {

Packing pack_best_fit(const std::vector<int32_t>& lengths, int64_t capacity) {
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), int64_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return lengths[size_t(a)] > lengths[size_t(b)]; });
  std::vector<int64_t> row_of(lengths.size()), counts;
  std::vector<std::vector<int64_t>> rows_with(size_t(capacity) + 1);  // by the room they have left
  std::set<int64_t> rooms;                                            // that some row has
  for (int64_t item : order) {
    const int64_t length = lengths[size_t(item)];
    FORJA_CHECK(length > 0 && length <= capacity, "an item of {} in rows of {}", length, capacity);
    int64_t row = int64_t(counts.size()), room = capacity;
    if (const auto fits = rooms.lower_bound(length); fits != rooms.end()) {
      room = *fits;
      std::vector<int64_t>& rows = rows_with[size_t(room)];
      row = rows.back();
      rows.pop_back();
      if (rows.empty()) rooms.erase(fits);
    } else {
      counts.push_back(0);
    }
    row_of[size_t(item)] = row;
    ++counts[size_t(row)];
    room -= length;
    if (rows_with[size_t(room)].empty()) rooms.insert(room);
    rows_with[size_t(room)].push_back(row);
  }
  Packing out;
  for (int64_t count : counts) out.begins.push_back(out.begins.back() + count);
  out.items.resize(lengths.size());
  std::vector<int64_t> next(out.begins.begin(), out.begins.end() - 1);
  for (int64_t item : order) out.items[size_t(next[size_t(row_of[size_t(item)])]++)] = item;
  return out;
}

Packing pack_none(int64_t num_items) {
  Packing out;
  for (int64_t i = 0; i < num_items; ++i) {
    out.items.push_back(i);
    out.begins.push_back(i + 1);
  }
  return out;
}

}  // namespace forja
