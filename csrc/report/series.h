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

// The exponential moving average with weight 2 / (span + 1) on the newest point, corrected for its
// start (Kingma and Ba, "Adam", 2015, section 3).
Points smooth(const Points& points, int64_t span);

}  // namespace forja
