// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/series.h"

#include <algorithm>
#include <cmath>

namespace forja {
namespace {

// Calls body(begin, end) for the points of every span that holds any.
template <class Body>
void for_each_bucket(const Points& points, int64_t buckets, Body body) {
  const double low = points.front().x, width = (points.back().x - low) / double(buckets);
  const auto bucket_of = [&](const Point& point) {
    return std::min(buckets - 1, int64_t((point.x - low) / width));
  };
  size_t begin = 0;
  while (begin < points.size()) {
    size_t end = begin + 1;
    const int64_t bucket = bucket_of(points[begin]);
    while (end < points.size() && bucket_of(points[end]) == bucket) ++end;
    body(points.begin() + int64_t(begin), points.begin() + int64_t(end));
    begin = end;
  }
}

void append_new(Points& points, const Point& point) {
  if (points.empty() || point.x > points.back().x) points.push_back(point);
}

}  // namespace

Points thin_min_max(const Points& points, int64_t buckets) {
  if (int64_t(points.size()) <= 2 * buckets) return points;
  Points thin;
  append_new(thin, points.front());
  for_each_bucket(points, buckets, [&](auto begin, auto end) {
    auto [low, high] =
        std::minmax_element(begin, end, [](const Point& a, const Point& b) { return a.y < b.y; });
    if (high < low) std::swap(low, high);
    append_new(thin, *low);
    append_new(thin, *high);
  });
  append_new(thin, points.back());
  return thin;
}

Points thin_last(const Points& points, int64_t buckets) {
  if (int64_t(points.size()) <= buckets) return points;
  Points thin;
  append_new(thin, points.front());
  for_each_bucket(points, buckets, [&](auto, auto end) { append_new(thin, *(end - 1)); });
  return thin;
}

Points smooth(const Points& points, int64_t reach) {
  const auto size = int64_t(points.size());
  std::vector<double> sums(points.size() + 1, 0.0);
  for (int64_t i = 0; i < size; ++i) sums[size_t(i + 1)] = sums[size_t(i)] + points[size_t(i)].y;
  Points smoothed;
  smoothed.reserve(points.size());
  for (int64_t i = 0; i < size; ++i) {
    const int64_t near = std::min(reach, i / 4);
    const int64_t begin = i - near, end = std::min(size, i + near + 1);
    const double sum = sums[size_t(end)] - sums[size_t(begin)];
    smoothed.push_back({points[size_t(i)].x, sum / double(end - begin)});
  }
  return smoothed;
}

}  // namespace forja
