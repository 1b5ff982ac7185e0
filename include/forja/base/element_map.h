// SPDX-License-Identifier: Apache-2.0
// Where the elements of a part of a tensor lie in the full one: what is drawn by the element of the
// full tensor is then the same in every layout. Usable from host and device code.
#pragma once

#include <cstdint>

#include "forja/base/dtype.h"

namespace forja {

// The part begins `column` elements into a row of its own; its rows are `columns` long, one every
// `full_columns` elements of the full tensor. With `columns` 0 it is one run.
struct ElementMap {
  int64_t first = 0;  // in the full tensor: where the row begins, or the run
  int64_t column = 0, columns = 0, full_columns = 0;

  // Element i of the part, in the full tensor.
  FORJA_HD int64_t full(int64_t i) const {
    if (columns == 0) return first + i;
    return first + (column + i) / columns * full_columns + (column + i) % columns;
  }
  // How many of the part's elements from i on, i included, follow one another there too; at most
  // `limit`.
  FORJA_HD int64_t run(int64_t i, int64_t limit) const {
    if (columns == 0) return limit;
    const int64_t left = columns - (column + i) % columns;
    return left < limit ? left : limit;
  }
};

}  // namespace forja
