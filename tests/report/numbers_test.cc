// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/numbers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "csrc/report/html.h"
#include "csrc/report/series.h"
#include "forja/base/error.h"

namespace forja {
namespace {

using Labels = std::vector<std::string>;

TEST(Numbers, LinearTicksAreRound) {
  EXPECT_EQ(tick_labels(linear_ticks(0, 1, 5)), (Labels{"0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  EXPECT_EQ(tick_labels(linear_ticks(0, 6e-4, 3)), (Labels{"0", "2e-4", "4e-4", "6e-4"}));
  EXPECT_EQ(tick_labels(linear_ticks(0, 1e6, 4)),
            (Labels{"0", "0.25M", "0.50M", "0.75M", "1.00M"}));
  EXPECT_EQ(tick_labels(linear_ticks(0, 12500, 5)),
            (Labels{"0", "2.5k", "5.0k", "7.5k", "10.0k", "12.5k"}));
  EXPECT_EQ(tick_labels(linear_ticks(-1, 1, 2)), (Labels{"-1", "0", "1"}));
  EXPECT_EQ(linear_ticks(3, 3, 5).size(), 1u);
}

TEST(Numbers, LogTicksFitTheRange) {
  EXPECT_EQ(tick_labels(log_ticks(2.2, 11, 5), true), (Labels{"3", "5", "7", "10"}));
  EXPECT_EQ(tick_labels(log_ticks(0.01, 100, 5), true), (Labels{"0.01", "0.1", "1", "10", "100"}));
  EXPECT_GE(log_ticks(2.31, 2.34, 5).size(), 3u);
  EXPECT_LE(log_ticks(1e-30, 1e30, 5).size(), 15u);
}

TEST(Numbers, ValuesHaveFourDigits) {
  EXPECT_EQ(format_value(3.21449), "3.214");
  EXPECT_EQ(format_value(10.9004), "10.90");
  EXPECT_EQ(format_value(0.012345), "0.01235");
  EXPECT_EQ(format_value(3e-4), "3.000e-4");
  EXPECT_EQ(format_value(12345), "12,345");
  EXPECT_EQ(format_value(999.97), "1,000");
  EXPECT_EQ(format_value(1234567), "1.235M");
  EXPECT_EQ(format_value(-2.5), "-2.500");
  EXPECT_EQ(format_value(0), "0");
  EXPECT_EQ(format_value(1e30), "1.000e30");
  EXPECT_EQ(format_value(INFINITY), "inf");
  EXPECT_EQ(format_value(NAN), "\xe2\x80\x93");
  EXPECT_EQ(format_integer(-1234567), "-1,234,567");
  EXPECT_EQ(format_integer(-123), "-123");
}

TEST(Series, ThinningKeepsExtremesAndEnds) {
  Points points;
  for (int i = 0; i < 10000; ++i) points.push_back({double(i), double(i * 7919 % 101)});
  points[4321].y = 1e6;
  points[8765].y = -1e6;
  const Points thin = thin_min_max(points, 100);
  EXPECT_LE(thin.size(), 202u);
  EXPECT_EQ(thin.front().x, 0);
  EXPECT_EQ(thin.back().x, 9999);
  bool high = false, low = false;
  for (size_t i = 0; i < thin.size(); ++i) {
    EXPECT_TRUE(i == 0 || thin[i - 1].x < thin[i].x);
    high |= thin[i].x == 4321 && thin[i].y == 1e6;
    low |= thin[i].x == 8765 && thin[i].y == -1e6;
  }
  EXPECT_TRUE(high && low);
  EXPECT_EQ(thin_min_max(points, 5000).size(), points.size());
  EXPECT_LE(thin_last(points, 100).size(), 101u);
  EXPECT_TRUE(thin_min_max({}, 10).empty());
}

TEST(Series, SmoothingFollowsAndEndsOnTheLastPoints) {
  Points line;
  for (int i = 0; i < 100; ++i) line.push_back({double(i), 2.0 * i});
  const Points smoothed = smooth(line, 10);
  for (int i = 0; i < 90; ++i) EXPECT_NEAR(smoothed[size_t(i)].y, 2.0 * i, 1e-9);
  EXPECT_NEAR(smoothed[99].y, 2.0 * 94, 1e-9);  // the mean of 89..99
  EXPECT_EQ(smooth({{1, 4}, {2, 8}}, 0)[1].y, 8);
  EXPECT_TRUE(smooth({}, 5).empty());
}

TEST(Html, Escapes) {
  EXPECT_EQ(escape_html("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
  EXPECT_EQ(escape_html("caf\xc3\xa9 \xff"), "caf\xc3\xa9 \xef\xbf\xbd");
  EXPECT_EQ(escape_html(std::string("a\0b\x1b", 4)), "ab");
  EXPECT_EQ(script_string("</script>\n\xff"), "\"\\u003c/script>\\n\xef\xbf\xbd\"");
}

TEST(Html, TemplatesAreFilledOnce) {
  EXPECT_EQ(fill_template("<p>{{a}}-{{b}}</p>", {{"a", "{{b}}"}, {"b", "2"}}), "<p>{{b}}-2</p>");
  EXPECT_THROW(fill_template("{{c}}", {{"a", ""}}), Error);
}

}  // namespace
}  // namespace forja
