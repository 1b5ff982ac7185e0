// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "forja/comm/communicator.h"

namespace forja {

std::vector<std::string> all_gather_text(Communicator& group, const std::string& mine,
                                         CommLabel label) {
  const int64_t ranks = group.size();
  int64_t size = int64_t(mine.size());
  std::vector<int64_t> sizes(static_cast<size_t>(ranks));
  group
      .all_gather(make_tensor(&size, DType::i64, {1}),
                  make_tensor(sizes.data(), DType::i64, {ranks}), label)
      .wait();
  // Pieces of one collective have one size.
  const int64_t longest = *std::max_element(sizes.begin(), sizes.end());
  std::string padded = mine, all(size_t(ranks * longest), '\0');
  padded.resize(size_t(longest));
  group
      .all_gather(make_tensor(padded.data(), DType::u8, {longest}),
                  make_tensor(all.data(), DType::u8, {ranks * longest}), label)
      .wait();
  std::vector<std::string> texts;
  for (int64_t rank = 0; rank < ranks; ++rank)
    texts.push_back(all.substr(size_t(rank * longest), size_t(sizes[size_t(rank)])));
  return texts;
}

}  // namespace forja
