// SPDX-License-Identifier: Apache-2.0
// Several samples in one row of a batch.
#pragma once

#include <cstdint>
#include <vector>

namespace forja {

// Row r holds the items items[begins[r]] to items[begins[r + 1] - 1], in this order.
struct Packing {
  std::vector<int64_t> begins = {0}, items;
  int64_t num_rows() const { return int64_t(begins.size()) - 1; }
};

// Best-fit decreasing: the longest first, each into the row with the least room that it fits into,
// else into a new one; of equals the first, and the row that was changed last. A pure function of
// its arguments, in O(n log capacity). 0 < lengths[i] <= capacity. It needs at most 11/9 of the
// fewest rows possible, plus one. Source: Johnson, "Near-optimal bin packing algorithms", 1973; for
// training: Krell et al., "Efficient Sequence Packing without Cross-contamination", 2021.
Packing pack_best_fit(const std::vector<int32_t>& lengths, int64_t capacity);

// One item a row.
Packing pack_none(int64_t num_items);

}  // namespace forja
