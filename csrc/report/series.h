// SPDX-License-Identifier: Apache-2.0
// Curves: smoothing, and thinning that keeps what the eye would see of every point.
#pragma once

#include <cstdint>
#include <vector>

namespace forja {

struct Point {
  double x = 0, y = 0;
};
using Points = std::vector<Point>;  // x rises; y is finite

// The lowest and the highest point of each of `buckets` equal spans of x, in order of x, and the
// first and last point of the curve. Curves of at most 2 * buckets points stay whole.
Points thin_min_max(const Points& points, int64_t buckets);

// The last point of each span: for curves that are smooth already.
Points thin_last(const Points& points, int64_t buckets);

// The mean of every point and its neighbours, up to `reach` on either side. Fewer at the start, a
// quarter of the points before, so that a loss that falls steeply is followed and not dragged; only
// those before at the end.
Points smooth(const Points& points, int64_t reach);

}  // namespace forja
